"""What an iterator has taken of its native consumer and not handed over yet."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bowstring.errors import Cancelled, InvalidArgument
from bowstring.reading import Origin, in_thread, unpacked

if TYPE_CHECKING:
    from bowstring import _native

_LOGGER = logging.getLogger("bowstring")


class Feeding:
    """The part of an iterator that waits for batches. Who extends it opens the consumer, and says what is flushed."""

    _unacked: dict[int, Origin]

    def __init__(self, stream: str, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self.stream = stream
        #: What was taken and not handed over yet, each with where it comes from: another thread may fill or clear it.
        self._ready: deque[tuple[pa.RecordBatch, Origin]] = deque()
        #: Batches that were dropped before those that the caller has.
        self._skipped = 0
        #: Where the last batch came from. The batch itself is the caller's to keep or to let go.
        self._last: Origin | None = None
        self._ended = False
        #: Which of the subscription's cursors they were read for.
        self._generation: int | None = None
        #: An exception, for instance of Ctrl-C, came between the batches that were taken together: to go on would be to
        #: skip some, and to ack them.
        self._torn = False
        #: A wait of an `async for` that was cancelled goes on here.
        self._filling: Future[bool] | None = None

    @property
    def subscription(self) -> str | None:
        """The subscription's name."""
        name: str | None = self._arguments["subscription"]
        return name

    def flush(self, timeout: float | None = None) -> None:
        """Waits until the coordinator has confirmed all acks so far."""
        raise NotImplementedError

    def _open(self) -> _native.Consumer:
        raise NotImplementedError

    def _still_unacked(self, generation: int | None) -> dict[int, Origin]:
        """What the caller has and may ack after the subscription's cursors have become these: nothing of it here."""
        return {}

    def _fill(self) -> bool:
        """Whether there is a batch; waits for one, or for the end."""
        if not self._ready and not self._ended:
            self._take()
        return bool(self._ready)

    async def _fill_async(self) -> bool:
        """The same without blocking the event loop."""
        while not self._ready and not self._ended:
            filling = self._filling = self._filling or in_thread(self._take)
            try:
                if not await asyncio.shield(asyncio.wrap_future(filling)):
                    break
            finally:
                if filling.done():
                    self._filling = None
        return bool(self._ready)

    def _pop(self) -> tuple[pa.RecordBatch, Origin]:
        """The next ready batch, which is now the caller's."""
        try:
            popped = self._ready.popleft()
        except IndexError:
            raise self._closed_meanwhile() from None
        self._last = origin = popped[1]
        if origin[6]:
            self._note_gap(origin)
        return popped

    def _note_gap(self, origin: Origin) -> None:
        partition, offset, skipped = origin[0], origin[1], origin[6]
        self._skipped += skipped
        text = "%d batches of partition %d of stream %r were dropped before offset %d, where subscription %r goes on"
        _LOGGER.warning(text, skipped, partition, self.stream, offset, self.subscription)

    def _take(self) -> bool:
        """Waits for batches, or for the end; whether there were any."""
        if self._torn:
            reason = "the iterator was interrupted while it took batches, and some are lost to it; make a new one"
            raise InvalidArgument(reason, "invalid_argument", False)
        try:
            consumer = self._open()
            taken = consumer.take(self._arguments["timeout"])
            # Else nothing more comes before what the caller has is acked: it may ask again then.
            has_ended = taken is None and consumer.has_ended
        except InvalidArgument:
            if not self._ended:
                raise
            raise self._closed_meanwhile() from None
        if taken is None:
            # Not in one: another thread may close it meanwhile.
            if has_ended:
                self._ended = True
            self.flush()
            return False
        try:
            batches, counts, rows, origins, generation = taken
            if generation != self._generation:
                # The subscription was put elsewhere: what came before is not to be acked any more. In this order.
                self._unacked = self._still_unacked(generation)
                self._generation = generation
            self._ready.extend(zip(unpacked(batches, counts, rows), origins, strict=True))
        except BaseException:
            self._torn = True
            raise
        return True

    def _closed_meanwhile(self) -> Cancelled:
        return Cancelled("the iterator was closed while it waited for a batch", "cancelled", False)

"""Reading epoch by epoch: each as a bounded Arrow stream, acked as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bowstring.errors import InvalidArgument, OffsetError
from bowstring.reading import end_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from bowstring import _native
    from bowstring.iterator import StreamingIterator
    from bowstring.reading import Origin


class CommittedEpoch:
    """One committed epoch, for instance a Spark micro-batch: its record batches, once, of all partitions that are read.

    It is a bounded Arrow stream: iterate over it (`for`, `async for`), hand it to any Arrow reader, or take
    `to_table()`. Batches come as they are received, so that an epoch may be larger than memory. A batch that came
    without an epoch is one by itself, whose `id` and `producer` are None. Of an epoch that the subscription has acked
    in part it is the rest.

    Iterating raises what the iterator's steps raise, `Timeout` among them, after which it goes on; and `OffsetError`
    if the rest of the epoch cannot come: a seek has put the subscription elsewhere, or `full_policy="drop_oldest"` has
    dropped it. Then the epoch is not acked.
    """

    def __init__(self, iterator: StreamingIterator) -> None:
        first, origin = iterator._ready[0]
        self._iterator = iterator
        self._consumer = iterator._consumer
        self._generation = iterator._generation
        self._key = _key(origin)
        #: What to ack, by partition.
        self._ends: dict[int, _native.End] = {}
        self._is_read = False
        self._is_settled = False
        self._broken: OffsetError | None = None
        #: Of all its batches.
        self.schema: pa.Schema = first.schema
        #: Its number, for instance Spark's batch id; None of a batch that came without one.
        self.id: int | None = origin[2]
        #: Who committed it, for instance a Spark query's id.
        self.producer: str | None = self._key[0] or None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        if not self._goes_on():
            raise StopIteration
        self._iterator._fill()
        return self._take()

    def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        return self

    async def __anext__(self) -> pa.RecordBatch:
        if not self._goes_on():
            raise StopAsyncIteration
        await self._iterator._fill_async()
        return self._take()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """What is left of it, for every Arrow reader."""
        return pa.RecordBatchReader.from_batches(self.schema, iter(self)).__arrow_c_stream__(requested_schema)

    def to_table(self) -> pa.Table:
        """What is left of it, in memory."""
        return pa.Table.from_batches(list(self), self.schema)

    def ack(self) -> None:
        """The subscription is done with the epoch; what of it was not read yet is read and thrown away.

        All of it is acked at once, or nothing. While an earlier epoch is not acked, the ack is kept in this process.
        Raises `InvalidArgument` once the iterator is closed, or without a subscription; what iterating raises.
        """
        for _ in self:
            pass
        self._ack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.ack()
        self._is_settled = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            async for _ in self:
                pass
            self._ack()
        self._is_settled = True

    def __repr__(self) -> str:
        return f"CommittedEpoch(id={self.id}, producer={self.producer!r})"

    def _goes_on(self) -> bool:
        """Whether there is more of it."""
        if self._broken is not None:
            raise self._broken
        if self._is_read:
            return False
        if self._consumer is None or self._consumer is not self._iterator._consumer:
            reason = f"epoch {self.id} comes again: its iterator is closed; read it before closing that"
            raise InvalidArgument(reason, "invalid_argument", False)
        return True

    def _take(self) -> pa.RecordBatch:
        iterator = self._iterator
        if iterator._generation != self._generation:
            raise self._break("a seek has put the subscription elsewhere", "subscription_moved")
        if not iterator._ready or _key(iterator._ready[0][1]) != self._key:
            raise self._break("full_policy has dropped it", "offset_gone")
        batch, origin = iterator._pop()
        self._ends[origin[0]] = end_of(origin)
        of_epoch = origin[5]
        self._is_read = of_epoch is not None and of_epoch[1]
        return batch

    def _break(self, why: str, code: str) -> OffsetError:
        text = f"the rest of epoch {self.id} cannot be read: {why}; drop what came of it, and go on with the next"
        self._broken = OffsetError(text, code, True)
        return self._broken

    def _ack(self) -> None:
        self._is_settled = True
        if self._consumer is None or self._consumer is not self._iterator._consumer:
            reason = f"epoch {self.id} comes again: its iterator is closed; ack it before closing that"
            raise InvalidArgument(reason, "invalid_argument", False)
        self._consumer.ack_each(list(self._ends.values()), self._generation)


class Epochs:
    """A subscription's epochs, in the order of their commits, for `for` and `async for`: see `Subscription.epochs`."""

    def __init__(self, iterator: StreamingIterator, auto_ack: bool) -> None:
        self._iterator = iterator
        self._auto_ack = auto_ack and iterator.subscription is not None
        self._current: CommittedEpoch | None = None

    def __iter__(self) -> Iterator[CommittedEpoch]:
        return self

    def __next__(self) -> CommittedEpoch:
        if self._current is not None:
            try:
                for _ in self._current:
                    pass
            except OffsetError:
                self._current._is_settled = True
            self._settle()
        if not self._iterator._fill():
            raise StopIteration
        return self._begin()

    def __aiter__(self) -> AsyncIterator[CommittedEpoch]:
        return self

    async def __anext__(self) -> CommittedEpoch:
        if self._current is not None:
            try:
                async for _ in self._current:
                    pass
            except OffsetError:
                self._current._is_settled = True
            self._settle()
        if not await self._iterator._fill_async():
            raise StopAsyncIteration
        return self._begin()

    def flush(self, timeout: float | None = None) -> None:
        """Waits until the coordinator has confirmed all acks so far; `timeout` is in seconds. Raises `Timeout`."""
        self._iterator.flush(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Confirms the acks so far and ends reading; epochs that are not acked are left to the next reader."""
        self._current = None
        self._iterator.close(timeout)

    def __reduce__(self) -> tuple[Any, ...]:
        return epochs_of, (self._iterator, self._auto_ack)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        current = self._current
        if kind is None and current is not None and (current._is_read or current._is_settled):
            self._settle()
        self.close()

    def _begin(self) -> CommittedEpoch:
        self._current = CommittedEpoch(self._iterator)
        return self._current

    def _settle(self) -> None:
        """The caller is done with the current one."""
        current, self._current = self._current, None
        if current is not None and self._auto_ack and not current._is_settled:
            current._ack()


def epochs_of(iterator: StreamingIterator, auto_ack: bool) -> Epochs:
    """The epochs of an iterator that was not used yet."""
    iterator._by_epoch = True
    return Epochs(iterator, auto_ack)


def _key(origin: Origin) -> tuple[Any, ...]:
    """What tells an epoch from the next: a batch without one is one by itself."""
    producer = origin[5][0] if origin[5] is not None else ""
    return (producer, origin[2]) if origin[2] is not None else (producer, None, origin[0], origin[1])

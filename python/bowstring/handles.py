"""Batches that are acked one by one, in any order: `iterator.handles()`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

import pyarrow as pa

from bowstring.errors import InvalidArgument
from bowstring.reading import end_of, rows_of
from bowstring.sharing import reason_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from bowstring import _native
    from bowstring.iterator import StreamingIterator
    from bowstring.reading import Origin


class BatchHandle:
    """A batch that is acked by itself: by `ack`, or by leaving a `with` or `async with` block without an exception.

    Without an ack it comes again, to the next iterator of the subscription. A subscription's cursor is one offset per
    partition: an ack of a batch behind one that is not acked is kept in this process until that is acked, too, and is
    lost with it. Acking twice does nothing, nor does acking what came before a seek or by a lease that was lost since.
    Any thread may ack.

    Of a shared subscription each ack counts by itself, and a batch can be given back: by `nack`, `release`, or leaving
    a `with` block with an exception, which is the reason then.
    """

    __slots__ = ("_consumer", "_generation", "_iterator", "_origin", "batch")

    def __init__(
        self,
        batch: pa.RecordBatch,
        origin: Origin,
        iterator: StreamingIterator,
        consumer: _native.Consumer | None,
        generation: int | None,
    ) -> None:
        #: The record batch.
        self.batch = batch
        self._origin = origin
        self._iterator = iterator
        self._consumer = consumer
        self._generation = generation

    @property
    def partition(self) -> int:
        """Its partition."""
        return self._origin[0]

    @property
    def offset(self) -> int:
        """Its offset in the partition, or its last one if small batches were put together."""
        return self._origin[1]

    @property
    def first_offset(self) -> int:
        """The first offset whose rows it has."""
        extent = self._origin[4]
        return self._origin[1] if extent is None else extent[0]

    @property
    def rows(self) -> tuple[int, int] | None:
        """Of a part of a large batch: its first row there, and one past its last."""
        return rows_of(self._origin)

    @property
    def epoch(self) -> int | None:
        """Its epoch, for instance Spark's batch id."""
        return self._origin[2]

    @property
    def appended_at_micros(self) -> int:
        """When the coordinator took it, in microseconds since the Unix epoch."""
        return self._origin[3]

    @property
    def traceparent(self) -> str | None:
        """Where it is in its epoch's trace, as W3C Trace Context's header has it; None if it is in none."""
        return self._origin[9]

    def ack(self) -> None:
        """The subscription is done with this batch. Returns at once.

        Raises `InvalidArgument` once the iterator is closed, or if it reads without a subscription.
        """
        self._open().ack_one(end_of(self._origin), self._generation)

    def ack_through(self) -> None:
        """The subscription is done with this batch and all of its partition before it, whoever has those. As `ack`."""
        self._open().ack_through(end_of(self._origin), self._generation)

    @property
    def delivery(self) -> int:
        """Which delivery of these rows it is: 1 for the first. More only of a shared subscription."""
        return self._origin[8]

    def nack(self, delay: float = 0.0, reason: str = "") -> None:
        """These rows could not be done: they go to anybody, not before `delay` seconds (at most a day).

        After as many failures as the subscription allows, they go to the dead letters, with the last reason (of which
        1024 bytes count). Returns at once. For shared subscriptions; raises `InvalidArgument` for others.
        """
        self._open().nack(end_of(self._origin), delay, reason)

    def release(self) -> None:
        """Nobody has begun with these rows: they go to anybody, and that is no failure. As `nack`."""
        self._open().release(end_of(self._origin))

    def renew(self, lasts: float) -> None:
        """They are this iterator's for `lasts` seconds from now on (0.1 to 86,400). As `nack`."""
        self._open().renew(end_of(self._origin), lasts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.ack()
        elif isinstance(value, Exception) and self._is_shared():
            self.nack(reason=reason_of(value))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Acks wait for nothing: they are sent in the background.
        self.__exit__(kind, value, trace)

    def __repr__(self) -> str:
        return f"BatchHandle(partition={self.partition}, offset={self.offset}, {self.batch.num_rows} rows)"

    def _is_shared(self) -> bool:
        consumer = self._consumer
        return consumer is not None and consumer is self._iterator._consumer and consumer.is_shared

    def _open(self) -> _native.Consumer:
        consumer = self._consumer
        if consumer is None or consumer is not self._iterator._consumer:
            reason = f"batch {self.offset} of partition {self.partition} comes again: its iterator is closed"
            raise InvalidArgument(f"{reason}; ack before closing it", "invalid_argument", False)
        return consumer


class BatchHandles:
    """What `iterator.handles()` gives: handles, by `for` or `async for`."""

    def __init__(self, iterator: StreamingIterator) -> None:
        self._iterator = iterator

    def __iter__(self) -> Iterator[BatchHandle]:
        return self

    def __next__(self) -> BatchHandle:
        if not self._iterator._fill():
            raise StopIteration
        return self._hand_over()

    def __aiter__(self) -> AsyncIterator[BatchHandle]:
        return self

    async def __anext__(self) -> BatchHandle:
        if not await self._iterator._fill_async():
            raise StopAsyncIteration
        return self._hand_over()

    def _hand_over(self) -> BatchHandle:
        iterator = self._iterator
        consumer, generation = iterator._consumer, iterator._generation
        batch, origin = iterator._pop()
        return BatchHandle(batch, origin, iterator, consumer, generation)

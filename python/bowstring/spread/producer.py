"""Appending to a stream over several coordinators."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa

from bowstring.appending import importable
from bowstring.spread.appends import Appends
from bowstring.spread.finding import Finder
from bowstring.spread.places import Places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self


class SpreadProducer:
    """Appends to all partitions of a stream. A context manager, as `Producer` is; any thread may use it.

    Appends return once the batch is on its way; `flush`, `close` and `complete` wait until all is stored. An append to
    a partition whose coordinator is away waits for it, up to the client's `retry_deadline`; others go on. What was on
    its way to a coordinator that comes back, also at another address, is sent once more and stored once. If its streams
    are gone, since it has no data directory, appends to it raise `StreamNotFound` or `StreamReplaced`.
    """

    def __init__(
        self,
        finder: Finder,
        places: Places,
        producer_id: str | None,
        partition: int | None,
        options: dict[str, Any],
    ) -> None:
        if partition is not None:
            places.place(partition)
        self._finder = finder
        self._places = places
        self._partition = partition
        self._producer_id = producer_id or str(uuid4())
        self._appends = {
            index: Appends(finder, places, index, self._producer_id, options, is_own=producer_id is None)
            for index in range(places.coordinators)
        }
        self._lock = threading.Lock()
        self._turn = 0

    @property
    def producer_id(self) -> str:
        """The producer's identity, the same at all coordinators."""
        return self._producer_id

    @property
    def stored(self) -> int:
        """Batches known to be stored."""
        return sum(one.stored for one in self._appends.values())

    def append(self, value: Any, partition: int | None = None, *, timeout: float | None = None) -> None:
        """Appends the batches of any object with `__arrow_c_stream__` or `__arrow_c_array__`.

        All to `partition` if it is given, here or for the producer; else they take turns over the partitions. Raises
        as `Producer.append` does, `Timeout` after `timeout` seconds for all of them, and `OffsetError` where there is
        no such partition. Of several batches those before the one that raises are on their way.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        for batch in _batches(value):
            where = self._next() if partition is None and self._partition is None else partition
            index, there = self._places.place(self._partition if where is None else where)  # type: ignore[arg-type]
            self._appends[index].append(batch, there, deadline)

    def flush(self, timeout: float | None = None) -> None:
        """Waits until all batches so far are stored. Raises `Timeout`, `Unavailable`, and why one was refused."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for one in self._appends.values():
            one.flush(deadline)

    def complete(self, timeout: float | None = None) -> None:
        """Waits until all is stored, then completes the stream at all coordinators."""
        self.close(timeout)
        for index in self._appends:
            self._finder.call(index, lambda client: client.complete_stream(self._places.stream))

    def fail(self, reason: str, timeout: float | None = None) -> None:
        """Ends the stream with an error: readers get what is stored, then `StreamFailed`."""
        self.close(timeout)
        for index in self._appends:
            self._finder.call(index, lambda client: client.fail_stream(self._places.stream, reason))

    def close(self, timeout: float | None = None) -> None:
        """Waits until all is stored and says goodbye; the stream goes on."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for one in self._appends.values():
            one.close(deadline)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Where something has gone wrong already, waiting for room could last for ever.
        if kind is None:
            self.close()

    def __repr__(self) -> str:
        return f"SpreadProducer({self._places.stream!r}, producer_id={self._producer_id!r})"

    def _next(self) -> int:
        with self._lock:
            turn, self._turn = self._turn, (self._turn + 1) % self._places.partitions
            return turn


def _batches(value: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(value, pa.RecordBatch):
        yield value
        return
    given = importable(value)
    if hasattr(given, "__arrow_c_stream__"):
        yield from pa.RecordBatchReader.from_stream(given)
    elif hasattr(given, "__arrow_c_array__"):
        yield pa.record_batch(given)
    else:
        raise TypeError(f"{type(value).__name__} is nothing that Arrow knows; give a batch, a table or a data frame")

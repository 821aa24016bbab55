"""What reading needs of the native module: its arguments, batches that crossed together, where each is from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pyarrow as pa

from bowstring.dialect import dialect_arguments
from bowstring.sharing import Sharing
from bowstring.starts import Start, start_text

if TYPE_CHECKING:
    from typing import TypeAlias

    from bowstring import _native


class Delivered(NamedTuple):
    """A batch and where it came from."""

    batch: pa.RecordBatch
    partition: int
    offset: int
    epoch: int | None
    appended_at_micros: int
    #: The first offset whose rows it has: `offset`, unless small batches were put together.
    first_offset: int
    #: Of a part of a large batch: its first row there, and one past its last.
    rows: tuple[int, int] | None
    #: Batches of its partition that were dropped before it and that the iterator was not given.
    skipped: int


_T = TypeVar("_T")

#: Where a batch came from: `_native.Facts`.
Origin: TypeAlias = "_native.Facts"


def unpacked(crossing: _native.Batches, counts: list[int], rows: list[int]) -> Iterator[pa.RecordBatch]:
    """Each batch of `Consumer.take`: of those that came joined, slices."""
    sizes = iter(rows)
    for joined, count in zip(pa.RecordBatchReader.from_stream(crossing), counts, strict=True):
        if count == 1:
            next(sizes)
            yield joined
            continue
        start = 0
        for size in islice(sizes, count):
            yield joined.slice(start, size)
            start += size


def consumer_arguments(
    *,
    subscription: str | None = None,
    partitions: Sequence[int] | None = None,
    follow: bool = True,
    start: Start = "earliest",
    offsets: Mapping[int, int] | None = None,
    end: Mapping[int, int] | None = None,
    stream_id: int | None = None,
    prefetch_batches: int = 8,
    prefetch_bytes: int = 64 << 20,
    stream_wait: float = 0.0,
    consumer: str | None = None,
    mode: str | None = None,
    lease: float = 10.0,
    sharing: Sharing | None = None,
    query: str | None = None,
    ack_within: float = 30.0,
    max_rows: int | None = None,
    target_rows: int | None = None,
    target_bytes: int | None = None,
    linger: float = 0.05,
    max_in_flight_batches: int | None = None,
    max_in_flight_bytes: int | None = None,
    by_epoch: bool = False,
    **dialect: Any,
) -> dict[str, Any]:
    """What the native consumer takes; `dialect` as for `dialect_arguments`."""
    return {
        "dialect": dialect_arguments(**dialect),
        "subscription": subscription,
        "partitions": None if partitions is None else list(partitions),
        "follow": follow,
        "start": start_text(start),
        "offsets": None if offsets is None else dict(offsets),
        "end": None if end is None else dict(end),
        "stream_id": stream_id,
        "prefetch_batches": prefetch_batches,
        "prefetch_bytes": prefetch_bytes,
        "stream_wait": stream_wait,
        "consumer": consumer,
        "mode": mode,
        "lease": lease,
        "sharing": None if sharing is None else sharing.arguments(),
        "query": query,
        "ack_within": ack_within,
        "max_rows": max_rows,
        "target_rows": target_rows,
        "target_bytes": target_bytes,
        "linger": linger,
        "max_in_flight_batches": max_in_flight_batches,
        "max_in_flight_bytes": max_in_flight_bytes,
        "by_epoch": by_epoch,
    }


def end_of(origin: Origin) -> _native.End:
    """What to ack to be done with a batch: the partition, the offset, rows of it that are done, too, and the lease."""
    extent, lease = origin[4], origin[7]
    return (origin[0], origin[1] + 1, 0, lease) if extent is None else (origin[0], extent[1], extent[2], lease)


def rows_of(origin: Origin) -> tuple[int, int] | None:
    """Of a part of a batch, which rows it has."""
    extent = origin[4]
    return None if extent is None or extent[3:] == (0, 0) else (extent[3], extent[4])


def in_thread(work: Callable[[], _T]) -> Future[_T]:
    """Works in a thread that does not keep the process from ending, as an executor's would."""
    working: Future[_T] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            working.set_exception(error)
        else:
            working.set_result(result)

    threading.Thread(target=run, name="bowstring-iterator", daemon=True).start()
    return working

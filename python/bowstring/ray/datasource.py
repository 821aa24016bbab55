"""Streams as Ray datasets: what a stream has in a range, read by Ray tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from bowstring.client import connect
from bowstring.epochs import epochs_of
from bowstring.errors import InvalidArgument, OffsetError, StreamReplaced
from bowstring.starts import Epoch


@dataclass(frozen=True)
class StreamRange:
    """Batches of a stream, from one offset to another in each partition: `unread` and `read_bowstring` make it.

    Attributes:
        url: the coordinator's.
        stream, stream_id: the stream, and what tells it from others of that name.
        offsets: by partition, the first offset and one past the last.
        subscription: what holds the batches until `ack`; None if nothing does.
        batch_bytes: what a batch has on average, in bytes, for Ray to plan with.
        schema: of the stream when the range was made; None if it had none.
    """

    url: str
    stream: str
    stream_id: int
    offsets: Mapping[int, tuple[int, int]]
    subscription: str | None
    batch_bytes: float
    schema: pa.Schema | None

    @property
    def batches(self) -> int:
        """How many there are."""
        return sum(end - start for start, end in self.offsets.values())

    def dataset(self, **options: Any) -> ray.data.Dataset:
        """The rows as a dataset, read when Ray executes it, each time that it does; `options` of `read_datasource`.

        Executing raises `OffsetError` if batches are not kept any more, and `StreamReplaced`.
        """
        dataset: ray.data.Dataset = ray.data.read_datasource(StreamDatasource(self), **options)
        return dataset

    def ack(self) -> None:
        """The subscription is done with the range: call it once what came of the dataset is safe.

        Raises `InvalidArgument` without a subscription, `StreamReplaced`, `Unavailable`.
        """
        if self.subscription is None:
            reason = f"the range of stream {self.stream} was read without a subscription, and nothing has to be acked"
            raise InvalidArgument(
                f"{reason}; make it with unread(url, stream, subscription)", "invalid_argument", False
            )
        ends = {partition: end for partition, (_, end) in self.offsets.items()}
        connect(self.url).ack(self.stream, self.subscription, ends, self.stream_id)


class StreamDatasource(Datasource):
    """The batches of a range: each read task has a part of one partition."""

    def __init__(self, source: StreamRange) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._source = source

    def get_name(self) -> str:
        """What Ray calls its tasks."""
        return f"bowstring {self._source.stream}"

    def estimate_inmemory_data_size(self) -> int:
        """Bytes, as far as they are known."""
        return round(self._source.batches * self._source.batch_bytes)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: object | None = None
    ) -> list[ReadTask]:
        """About `parallelism` tasks, one per partition at least, of equally many batches."""
        source = self._source
        size = max(1, -(-source.batches // max(1, parallelism)))
        parts = [
            (partition, first, min(first + size, end))
            for partition, (start, end) in sorted(source.offsets.items())
            for first in range(start, end, size)
        ]
        return [self._task(_range_reader(source, *part), part[2] - part[1], per_task_row_limit) for part in parts] or [
            self._task(lambda: iter([_empty(source.schema)]), 0, per_task_row_limit)
        ]

    def _task(self, read: Callable[[], Iterator[pa.Table]], batches: int, rows_max: int | None) -> ReadTask:
        source = self._source
        metadata = BlockMetadata(None, round(batches * source.batch_bytes), None)
        return ReadTask(read, metadata, schema=source.schema, per_task_row_limit=rows_max)


class EpochDatasource(StreamDatasource):
    """The batches of a committed epoch: a read task per partition."""

    def __init__(self, source: StreamRange, producer: str, epoch: int) -> None:
        super().__init__(source)
        self._producer = producer
        self._epoch = epoch

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: object | None = None
    ) -> list[ReadTask]:
        """As many as there are partitions: an epoch's batches lie together in each."""
        source, of = self._source, (self._producer, self._epoch)
        return [self._task(_epoch_reader(source, one, *of), 1, per_task_row_limit) for one in sorted(source.offsets)]


def unread(url: str, stream: str, subscription: str) -> StreamRange:
    """What the subscription, made if it does not exist, has not acked: it stays until the range's `ack`.

    After a failure before that the same call gives the same batches again, and what came since: at least once.

        found = unread(url, "clicks", "nightly")
        found.dataset().write_parquet("clicks")
        found.ack()

    Raises `StreamNotFound`, `Unavailable`; `InvalidArgument` if consumers divide the subscription among themselves.
    """
    client = connect(url)
    made = client.subscribe(stream, subscription, mode="static")
    starts = {one["partition"]: one["acked"] for one in made["partitions"]}
    described = client.describe_stream(stream)
    ends = {one["partition"]: one["end"] for one in described["partitions"]}
    return _range(url, described, {one: (starts[one], ends[one]) for one in ends}, subscription)


def read_bowstring(
    url: str,
    stream: str,
    *,
    offsets: Mapping[int, tuple[int, int]] | None = None,
    epoch: int | Epoch | None = None,
    **options: Any,
) -> ray.data.Dataset:
    """A stream's rows as a dataset of Ray Data: what is visible now, and no more.

    It is read by Ray tasks when Ray executes it, straight from the coordinator, without a subscription: nothing is
    acked, and nothing holds the batches meanwhile but other subscriptions and the stream's retention. To hold them and
    ack them afterwards use `unread`. Of an epoch that is at hand in memory, `ray.data.from_arrow(epoch.to_table())` is
    a dataset, too.

    Args:
        url: the coordinator's, as all nodes reach it.
        stream: its name.
        offsets: by partition, the first offset and one past the last; all that is kept by default.
        epoch: only this committed epoch: its number, or a `bowstring.Epoch` if several producers commit epochs.
        options: of `ray.data.read_datasource`, for instance `override_num_blocks` or `concurrency`.

    Raises `StreamNotFound`; `OffsetError` for what is not there, or not kept any more, at once or when it is executed;
    `InvalidArgument`; `Unavailable`.
    """
    if offsets is not None and epoch is not None:
        raise InvalidArgument("name offsets or an epoch, not both", "invalid_argument", False)
    described = connect(url).describe_stream(stream)
    kept = {one["partition"]: (one["start"], one["end"]) for one in described["partitions"]}
    if epoch is not None:
        wanted = epoch if isinstance(epoch, Epoch) else Epoch(epoch)
        producer = _producer_of(described, wanted)
        source = EpochDatasource(_range(url, described, kept, None), producer, wanted.epoch)
        dataset: ray.data.Dataset = ray.data.read_datasource(source, **options)
        return dataset
    for partition, (start, end) in (offsets or {}).items():
        first, last = kept.get(partition, (0, 0))
        if partition not in kept or not first <= start <= end <= last:
            where = f"{stream} has {first} to {last}" if partition in kept else f"{stream} has {len(kept)} partitions"
            reason = f"batches {start} to {end} of partition {partition} are not there: stream {where}"
            raise OffsetError(f"{reason}; name offsets that are", "offset_ahead", False)
    return _range(url, described, offsets or kept, None).dataset(**options)


def _range(
    url: str, described: Mapping[str, Any], offsets: Mapping[int, tuple[int, int]], subscription: str | None
) -> StreamRange:
    batches = sum(one["end"] for one in described["partitions"])
    size = sum(one["bytes_total"] for one in described["partitions"]) / max(1, batches)
    stream, stream_id, schema = described["stream"], described["stream_id"], described["schema"]
    return StreamRange(url, stream, stream_id, dict(offsets), subscription, size, schema)


def _producer_of(described: Mapping[str, Any], wanted: Epoch) -> str:
    """Who has committed the epoch. Raises `OffsetError` if nobody has, `InvalidArgument` if it is not clear who."""
    committed = {one["producer"]: one["committed_epoch"] for one in described["producers"]}
    committed = {name: epoch for name, epoch in committed.items() if epoch is not None}
    what = f"epoch {wanted.epoch} of stream {described['stream']}"
    if wanted.producer is None and len(committed) > 1:
        reason = f"{what} may be of {len(committed)} producers; name one: bowstring.Epoch({wanted.epoch}, producer)"
        raise InvalidArgument(reason, "invalid_argument", False)
    name = next(iter(committed), "") if wanted.producer is None else wanted.producer
    if committed.get(name, -1) < wanted.epoch:
        raise OffsetError(f"{what} is not committed; read one that is", "offset_ahead", False)
    return name


def _range_reader(source: StreamRange, partition: int, start: int, end: int) -> Callable[[], Iterator[pa.Table]]:
    url, stream, stream_id, schema = source.url, source.stream, source.stream_id, source.schema

    def read() -> Iterator[pa.Table]:
        for batch in connect(url).read(stream, partition, start, end, stream_id=stream_id, schema=schema):
            yield pa.Table.from_batches([batch])

    return read


def _epoch_reader(source: StreamRange, partition: int, producer: str, epoch: int) -> Callable[[], Iterator[pa.Table]]:
    url, stream, stream_id, schema = source.url, source.stream, source.stream_id, source.schema

    def read() -> Iterator[pa.Table]:
        start = Epoch(epoch, producer)
        options = {"subscription": None, "partitions": [partition], "start": start, "follow": False, "schema": schema}
        with connect(url).iterator(stream, **options) as iterator:
            iterator._by_epoch = True
            if iterator._open().stream_id != stream_id:
                reason = f"stream {stream} was deleted and made anew since epoch {epoch} was found; read it again"
                raise StreamReplaced(reason, "stream_replaced", False)
            # It starts with this epoch, or with a later one if the partition has nothing of it.
            first = next(epochs_of(iterator, False), None)
            if first is not None and (first.producer, first.id) == (producer, epoch):
                for batch in first:
                    yield pa.Table.from_batches([batch])
            else:
                yield _empty(schema)

    return read


def _empty(schema: pa.Schema | None) -> pa.Table:
    return (pa.schema([]) if schema is None else schema).empty_table()

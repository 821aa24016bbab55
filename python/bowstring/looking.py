"""What a look at a stream gives: who waits for whom, what is not acked, and a few of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bowstring._showing import html_table, size, span, text_table

if TYPE_CHECKING:
    from bowstring import _native


@dataclass(frozen=True)
class Reason:
    """One sentence of a `Why`.

    Attributes:
        cause: what it is about: "consumer", "evicted", "no_consumer", "no_subscription", "epoch", "log", "on_the_way",
            "no_batches", "producer_lost", "completed", "failed" or "nobody".
        waits: the producer or consumer that waits; None where nobody does.
        since: seconds that it has waited, or that what it speaks of has been so; None where that is not known.
        text: the sentence.
    """

    cause: str
    waits: str | None
    since: float | None
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, repr=False)
class Why:
    """Who waits for whom in a stream, and since when: at least one sentence, the most pressing first."""

    stream: str
    reasons: tuple[Reason, ...]

    def __iter__(self) -> Iterator[Reason]:
        return iter(self.reasons)

    def __str__(self) -> str:
        return "\n".join(map(str, self.reasons))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [(one.cause, "" if one.since is None else span(one.since), one.text) for one in self.reasons]
        return html_table(f"stream {self.stream}", ("cause", "for", "why"), rows)


@dataclass(frozen=True)
class Lag:
    """What a subscription has not acked, of one partition or of all.

    Attributes:
        batches, rows, bytes: how much.
        age: seconds since the oldest batch was appended; 0 if there is none.
        held: seconds for which that batch could have been acked: since it became visible or the cursor last moved. Of
            several partitions, the longest. A restart of the coordinator counts anew.
        drains_in: seconds until all is acked, if acks and appends go on as in the last 10 to 20 seconds; None if it is
            not draining.
        skipped: batches that were dropped before they were acked.
        partition, acked: the partition and the cursor in it; None over all.
        consumers: who reads it now.
    """

    batches: int
    rows: int
    bytes: int
    age: float
    held: float
    drains_in: float | None
    skipped: int
    partition: int | None = None
    acked: int | None = None
    consumers: tuple[str, ...] = ()

    def _cells(self, subscription: str) -> tuple[str, ...]:
        drains = "not draining" if self.drains_in is None else f"in {span(self.drains_in)}"
        return (
            subscription,
            "all" if self.partition is None else str(self.partition),
            "" if self.acked is None else str(self.acked),
            f"{self.batches:,}",
            f"{self.rows:,}",
            size(self.bytes),
            span(self.age),
            span(self.held),
            drains if self.batches else "-",
            " ".join(self.consumers),
        )


@dataclass(frozen=True)
class SubscriptionLag:
    """A subscription's lag: `total` over all partitions, and one per partition."""

    subscription: str
    total: Lag
    partitions: tuple[Lag, ...]

    def _rows(self) -> Iterator[tuple[str, ...]]:
        if len(self.partitions) > 1:
            yield self.total._cells(self.subscription)
        for one in self.partitions:
            yield one._cells(self.subscription)


_LAG_HEADER = (
    "subscription",
    "partition",
    "acked",
    "batches",
    "rows",
    "bytes",
    "oldest",
    "held",
    "drains",
    "consumers",
)


@dataclass(frozen=True, repr=False)
class StreamLag:
    """The lag of a stream's subscriptions, by name: `lag["trainer"].total.batches`."""

    stream: str
    subscriptions: tuple[SubscriptionLag, ...]

    def __getitem__(self, subscription: str) -> SubscriptionLag:
        """That of one subscription. Raises `KeyError`."""
        for one in self.subscriptions:
            if one.subscription == subscription:
                return one
        raise KeyError(subscription)

    def __iter__(self) -> Iterator[SubscriptionLag]:
        return iter(self.subscriptions)

    def __len__(self) -> int:
        return len(self.subscriptions)

    def _rows(self) -> list[tuple[str, ...]]:
        return [row for one in self.subscriptions for row in one._rows()]

    def __str__(self) -> str:
        if not self.subscriptions:
            return f"stream {self.stream} has no subscription"
        return text_table(_LAG_HEADER, self._rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(f"lag of stream {self.stream}", _LAG_HEADER, self._rows())


class Peek:
    """Some rows of a stream: `table`, with the columns `_partition`, `_offset` and `_epoch` behind its own."""

    def __init__(self, stream: str, table: pa.Table) -> None:
        self.stream = stream
        self.table = table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows for polars, duckdb, pandas and every other Arrow reader."""
        return self.table.__arrow_c_stream__(requested_schema)

    def _cells(self) -> list[tuple[str, ...]]:
        columns = [[_cell(value) for value in column.to_pylist()] for column in self.table.columns]
        return list(zip(*columns, strict=True))

    def __str__(self) -> str:
        if not self:
            return f"stream {self.stream} has no rows there"
        return text_table(self.table.column_names, self._cells())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(f"{len(self)} rows of stream {self.stream}", self.table.column_names, self._cells())


#: A value that is longer is cut where rows are shown.
_CELL_LENGTH_MAX = 60


def _cell(value: object) -> str:
    text = "" if value is None else str(value).replace("\n", " ")
    return text if len(text) <= _CELL_LENGTH_MAX else text[: _CELL_LENGTH_MAX - 3] + "..."


def with_origin(batch: pa.RecordBatch, origin: _native.Facts) -> pa.Table:
    """The batch as a table with where it came from."""
    partition, offset, epoch, *_ = origin
    table = pa.Table.from_batches([batch])
    for name, number, kind in (
        ("_partition", partition, pa.uint32()),
        ("_offset", offset, pa.uint64()),
        ("_epoch", epoch, pa.uint64()),
    ):
        table = table.append_column(name, pa.repeat(pa.scalar(number, kind), batch.num_rows))
    return table


def why_of(found: Mapping[str, Any]) -> Why:
    """A `Why` of what the native client gives."""
    return Why(found["stream"], tuple(Reason(**reason) for reason in found["reasons"]))


def lag_of(stream: str, found: list[dict[str, Any]]) -> StreamLag:
    """A `StreamLag` of what the native client gives."""

    def partition(one: dict[str, Any]) -> Lag:
        return Lag(**{**one, "consumers": tuple(one["consumers"])})

    return StreamLag(
        stream,
        tuple(
            SubscriptionLag(one["subscription"], Lag(**one["total"]), tuple(map(partition, one["partitions"])))
            for one in found
        ),
    )


def with_schema(description: dict[str, Any]) -> dict[str, Any]:
    """The description with its schema, if it has one, as a `pyarrow.Schema`."""
    if description["schema"] is not None:
        description["schema"] = pa.schema(description["schema"])
    return description


def consumer_cursors(description: Mapping[str, Any]) -> dict[str, dict[int, int]]:
    """Acked offsets by subscription and partition."""
    return {
        one["subscription"]: {place["partition"]: place["acked"] for place in one["partitions"]}
        for one in description["subscriptions"]
    }

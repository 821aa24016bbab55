"""Flows in bytewax: a source that gives the rows of a subscription's batches, and its own operators, row by row."""

from __future__ import annotations

import datetime
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as windowing
import pyarrow as pa
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

import bowstring
from bench.flow_rows import BEGIN_MICROS, COUNTS, LATENESS_SECONDS, SCHEMA, WINDOW_MICROS, WINDOW_SECONDS, Work

UTC = datetime.timezone.utc
#: Its clock stands still: windows are over by the rows' times alone, as they are elsewhere.
NOW = datetime.datetime.fromtimestamp(BEGIN_MICROS / 1e6, UTC)

Row = tuple[int, datetime.datetime, int]


class Rows(DynamicSource[Row], StatelessSourcePartition[Row]):
    """The rows of a subscription, a batch of them at a time."""

    def __init__(self, subscription: bowstring.Subscription) -> None:
        self._iterator = subscription.iterator()

    def build(self, *_: object) -> Rows:
        return self

    def next_batch(self) -> list[Row]:
        batch = next(self._iterator, None)
        if batch is None:
            raise StopIteration
        return list(zip(*(column.to_pylist() for column in batch.columns), strict=True))

    def close(self) -> None:
        self._iterator.close()


class Results(DynamicSink[Any], StatelessSinkPartition[Any]):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def build(self, *_: object) -> Results:
        return self

    def write_batch(self, items: list[Any]) -> None:
        self.items += items


def run(subscription: bowstring.Subscription, work: Work) -> list[Any]:
    """One worker, in this thread."""
    flow = Dataflow("bench")
    rows = op.input("rows", flow, Rows(subscription))
    results = Results()
    op.output("results", _filtered(rows) if work.kind == "filter" else _counted(rows), results)
    run_main(flow)
    return results.items


def table(work: Work, items: list[Any]) -> pa.Table:
    """Its results as all have them."""
    if work.kind == "filter":
        return pa.Table.from_arrays([pa.array(column) for column in zip(*items, strict=True)], SCHEMA.names)
    rows = [(BEGIN_MICROS // WINDOW_MICROS + window, int(key), n) for key, (window, n) in items]
    return pa.Table.from_arrays([pa.array(column) for column in zip(*rows, strict=True)], schema=COUNTS)


def _filtered(rows: Any) -> Any:
    return op.filter("filter", rows, lambda row: row[2] < 100)


def _counted(rows: Any) -> Any:
    clock = windowing.EventClock(
        ts_getter=lambda row: row[1],
        wait_for_system_duration=datetime.timedelta(seconds=LATENESS_SECONDS),
        now_getter=lambda: NOW,
        to_system_utc=lambda _: None,
    )
    windower = windowing.TumblingWindower(length=datetime.timedelta(seconds=WINDOW_SECONDS), align_to=NOW)
    # Keys are text there.
    return windowing.count_window("count", rows, clock, windower, key=lambda row: str(row[0])).down

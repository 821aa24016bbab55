"""A contestant's process in the part `flows`. Usage: flow_ends WHO FOLDER WORK...; prints a report for each work.

Who reads a subscription reads that of a coordinator embedded in the same process, whose time counts with its own; the
stream has all rows, and has ended, before the clock starts. Each work is done once on little data before.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

import bowstring
from bench.ends import Meter
from bench.flow_rows import BATCH_ROWS, CONDITION, LATENESS_SECONDS, WINDOW_MICROS, WINDOW_SECONDS, Work, digest
from bowstring.flows import Job, count, tumbling

STREAM, SUBSCRIPTION = "rows", "flow"
#: Of the rows, before: what is loaded, planned and compiled then is not what is asked.
WARM_UP = 16
#: How often a flow saves, in seconds: four times as often as by default, since it is done with most works in a second.
SAVE_EVERY = 0.25

#: Does the work, and gives what makes a table of its results once the clock has stopped.
Runs = Callable[[bowstring.Subscription, Work, Path], Callable[[], pa.Table]]


def main(who: str, folder: Path, works: list[Work]) -> None:
    run = CONTESTANTS[who]
    for work in works:
        run(replace(work, rows=work.rows // WARM_UP), folder)
        print(json.dumps(run(work, folder)), flush=True)


def by_subscription(run: Runs, work: Work, folder: Path) -> dict[str, Any]:
    """Over a stream of a coordinator of its own."""
    with bowstring.StreamCoordinator() as coordinator:
        client = bowstring.connect(coordinator.url)
        client.create_stream(STREAM, max_buffered_batches=work.rows // BATCH_ROWS + 1)
        client.subscribe(STREAM, SUBSCRIPTION)
        with client.producer(STREAM) as producer:
            for batch in work.batches():
                producer.append(batch)
            producer.complete()
        meter = Meter()
        results = run(client.subscription(STREAM, SUBSCRIPTION), work, folder)
        report = meter.report()
    return {
        "seconds": (report["ended_ns"] - report["begun_ns"]) / 1e9,
        "cpu_seconds": report["cpu_seconds"],
        "digest": digest(work, results()),
    }


def flow(subscription: bowstring.Subscription, work: Work, _folder: Path) -> Callable[[], pa.Table]:
    """State in memory."""
    return _run(subscription, work, state=None)


def saved_flow(subscription: bowstring.Subscription, work: Work, folder: Path) -> Callable[[], pa.Table]:
    """State in a directory."""
    return _run(subscription, work, state=tempfile.mkdtemp(dir=folder))


def polars(subscription: bowstring.Subscription, work: Work, _folder: Path) -> Callable[[], pa.Table]:
    from bench.flow_loops import Polars, loop

    results = loop(Polars(), subscription, work)
    return lambda: results


def duckdb(subscription: bowstring.Subscription, work: Work, _folder: Path) -> Callable[[], pa.Table]:
    from bench.flow_loops import DuckDB, loop

    results = loop(DuckDB(), subscription, work)
    return lambda: results


def bytewax(subscription: bowstring.Subscription, work: Work, _folder: Path) -> Callable[[], pa.Table]:
    # Not everybody has it.
    from bench.flow_bytewax import run, table

    items = run(subscription, work)
    return lambda: table(work, items)


def spark(work: Work, folder: Path) -> dict[str, Any]:
    from bench.flow_spark import run

    return vars(run(work, folder))


def job(subscription: bowstring.Subscription, work: Work, results: list[pa.RecordBatch], state: str | None) -> Job:
    """The flow itself."""
    rows = bowstring.flow(subscription)
    if work.kind == "filter":
        done = rows.filter(CONDITION)
    else:
        timed = rows.event_time("made_at", lateness=LATENESS_SECONDS).key_by("key")
        done = timed.window(tumbling(WINDOW_SECONDS)).aggregate(count().alias("n"))
    return done.to(results.append, state=state, save_every=SAVE_EVERY, memory_bytes_max=1 << 30)


def _run(subscription: bowstring.Subscription, work: Work, state: str | None) -> Callable[[], pa.Table]:
    results: list[pa.RecordBatch] = []
    job(subscription, work, results, state).run()
    return lambda: _table(work, results)


def _table(work: Work, results: list[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(results)
    if work.kind == "filter":
        return table
    windows = [micros // WINDOW_MICROS for micros in table["window_start"].cast(pa.int64()).to_numpy()]
    return table.select(["key", "n"]).append_column("w", pa.array(windows, pa.int64()))


CONTESTANTS: dict[str, Callable[[Work, Path], dict[str, Any]]] = {
    "flow": partial(by_subscription, flow),
    "saved_flow": partial(by_subscription, saved_flow),
    "polars": partial(by_subscription, polars),
    "duckdb": partial(by_subscription, duckdb),
    "bytewax": partial(by_subscription, bytewax),
    "spark": spark,
}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [Work.of(text) for text in sys.argv[3:]])

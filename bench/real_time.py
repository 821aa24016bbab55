"""How old a row is when a consumer sees it: Spark's Real-time Mode through the JVM sink beside its micro-batches.

Rows are made one by one at a rate, in the driver, by the source that Spark ships for tests of Real-time Mode; each of
its tasks looks every 10 ms whether there is a row, which is a part of every figure. The consumer is a Python process on
the client core in Rust. What Spark itself takes in Real-time Mode is measured beside it: a foreach writer in the task
looks at the same rows; then there is no sink, no coordinator and no other process.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import bowstring
from bench.cases import Case
from bench.children import children, python
from bench.contestants import listening, serve
from bench.ends import READY
from bench.figures import Figures, figures
from bench.live_rows import LiveRows, add_live_rows, ages, see_ages
from bench.report import Floor, Series
from bench.spark_paths import PARTITIONS, open_session
from bowstring.streaming import from_spark_streaming

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MICRO_BATCHES, REAL_TIME, FOREACH = "micro-batches", "Real-time Mode", "Spark's foreach, Real-time Mode"
#: Longer than a round: what is measured has no batch's end in it.
TRIGGERS = {MICRO_BATCHES: {"processingTime": "0 seconds"}, REAL_TIME: {"realTime": "10 minutes"}}
QUANTILES = ("p50", "p99")
#: The first rows wait for planning and for the tasks' start.
WARM_UP_ROWS, WARM_UP_RATE = 100, 500
#: How long anything may take that takes less than a second.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Amount:
    """Rows per second, and how long."""

    rates: tuple[int, ...]
    seconds: float

    def rows(self, rate: int) -> int:
        """Rows of a round."""
        return round(rate * self.seconds)


MUCH = Amount((100, 1000), 10.0)
SMOKE = Amount((100, 1000), 1.0)


@dataclass(frozen=True)
class Place:
    """What a path runs on."""

    spark: SparkSession
    url: str
    folder: Path


def measure_real_time(rounds: int, amount: Amount | None = None) -> tuple[list[Series], list[Floor]]:
    """Every rate with every way in turn, on one Spark and one coordinator."""
    amount = amount or (SMOKE if rounds == 1 else MUCH)
    measured = {rate: {quantile: _series(rate, quantile) for quantile in QUANTILES} for rate in amount.rates}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (server,) = stack.enter_context(children(serve()))
        spark = open_session({})
        stack.callback(spark.stop)
        # Each query is stopped in its batch, of which Spark tells at length.
        spark.sparkContext.setLogLevel("OFF")
        (folder / "classes").mkdir()
        add_live_rows(spark, folder / "classes")
        place = Place(spark, listening(server), folder)
        for rate in rounds * amount.rates:
            for name in (MICRO_BATCHES, REAL_TIME, FOREACH):
                shown = once(place, name, rate, amount.rows(rate))
                assert shown.latency, "rows say when they were made"
                for quantile, series in measured[rate].items():
                    series.values.setdefault(name, []).append(shown.latency[quantile] / 1e3)
    series = [one for by_quantile in measured.values() for one in by_quantile.values()]
    # What rows at 100/s cost is mostly the wait for the next one, on both sides.
    ratio = 1 / measured[amount.rates[-1]]["p50"].ratio(REAL_TIME, MICRO_BATCHES)
    return series, [Floor("age of rows in micro-batches, of that in Real-time Mode, p50", ratio, 5.0)]


def once(place: Place, name: str, rate: int, rows: int) -> Figures:
    """One way's round."""
    return foreach(place, rate, rows) if name == FOREACH else through(place, TRIGGERS[name], rate, rows)


def through(place: Place, trigger: dict[str, str], rate: int, rows: int) -> Figures:
    """Through the JVM sink and the coordinator, to a process that reads."""
    live = LiveRows(place.spark, PARTITIONS)
    stream = f"live-{time.monotonic_ns()}"
    client = bowstring.connect(place.url)
    warming, query = from_spark_streaming(
        live.frame(),
        stream,
        max_buffered_batches=1024,
        trigger=trigger,
        checkpoint_location=tempfile.mkdtemp(dir=place.folder),
        coordinator=place.url,
        num_partitions=PARTITIONS,
        use_jvm_sink=True,
        subscription="warm-up",
        timeout=PATIENCE_SECONDS,
    )
    live.run(WARM_UP_RATE, WARM_UP_ROWS)
    came = 0
    for batch in warming:
        came += batch.num_rows
        if came == WARM_UP_ROWS:
            break
    warming.close()
    client.subscribe(stream, "bench", start="latest")
    client.unsubscribe(stream, "warm-up")
    case = Case("ages", "latency", batch_bytes=0, batches=rows)
    with children(python("bench.python_ends", "ages", place.url, stream, case.json())) as (reader,):
        reader.expect(READY)
        reader.go()
        live.run(rate, rows)
        shown = figures(None, [reader.report()], None)
    query.stop(drain_timeout=0)
    client.delete_stream(stream)
    return shown


def foreach(place: Place, rate: int, rows: int) -> Figures:
    """To a function in Spark's task."""
    live = LiveRows(place.spark, PARTITIONS)
    query = see_ages(live.frame(), tempfile.mkdtemp(dir=place.folder), TRIGGERS[REAL_TIME]["realTime"])
    try:
        live.run(WARM_UP_RATE, WARM_UP_ROWS)
        _wait_until(lambda: ages(place.spark).count() == WARM_UP_ROWS)
        ages(place.spark).take()
        live.run(rate, rows)
        _wait_until(lambda: ages(place.spark).count() == rows)
        seen = [int(age) for age in str(ages(place.spark).take()).split()]
    finally:
        query.stop()
    quantiles = {name: float(np.quantile(seen, int(name[1:]) / 100, method="higher")) / 1e3 for name in QUANTILES}
    return Figures(rows / rate, rows, 0, latency=quantiles)


def _series(rate: int, quantile: str) -> Series:
    name = f"{rate:,} rows/s one by one, row made to row seen, {quantile}"
    return Series(name, "ms", {}, [MICRO_BATCHES], more_is_better=False)


def _wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not all rows came within {PATIENCE_SECONDS:g} s")
        time.sleep(0.01)

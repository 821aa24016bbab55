"""Peers of flows that one writes by hand: a loop over a subscription's batches, with Polars or DuckDB for each of them.

What a batch gives are partial counts per window and key. They wait, are put together when as many again have come, and
once more when their window is over: that costs less than to merge each into what was there before. Most batches lie in
one window, so that keys alone are counted: with the window as a second key it took twice as long.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

# One thread: what is asked is the work of a core, and a batch is too small for two.
os.environ["POLARS_MAX_THREADS"] = "1"

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

import bowstring
from bench.flow_rows import CONDITION, LATENESS_SECONDS, WINDOW_MICROS, Work

#: Partial counts that wait at least.
WAITING_ROWS_MIN = 1_000_000


class Engine(Protocol):
    """What makes something of a batch; `Any` is its own table, or Arrow's."""

    def filter(self, batch: pa.RecordBatch) -> Any:
        """The rows that pass."""

    def count(self, rows: pa.RecordBatch) -> Any:
        """Of rows of one window: key, n."""

    def merged(self, counts: list[Any]) -> Any:
        """One count per key."""

    def arrow(self, results: list[Any]) -> pa.Table:
        """All of them."""


class Polars:
    """By expressions."""

    def filter(self, batch: pa.RecordBatch) -> pl.DataFrame:
        return _frame(batch).filter(pl.col("value") < 100)

    def count(self, rows: pa.RecordBatch) -> pl.DataFrame:
        return _frame(rows).group_by("key").agg(pl.len().cast(pl.Int64).alias("n"))

    def merged(self, counts: list[pl.DataFrame]) -> pl.DataFrame:
        return pl.concat(counts).group_by("key").agg(pl.col("n").sum())

    def arrow(self, results: list[pl.DataFrame]) -> pa.Table:
        return pl.concat(results).to_arrow()


class DuckDB:
    """By SQL, with Arrow tables between."""

    def __init__(self) -> None:
        self._connection = duckdb.connect(config={"threads": 1})

    def filter(self, batch: pa.RecordBatch) -> pa.Table:
        return self._query(f"SELECT * FROM given WHERE {CONDITION}", pa.Table.from_batches([batch]))

    def count(self, rows: pa.RecordBatch) -> pa.Table:
        return self._query("SELECT key, count(*) AS n FROM given GROUP BY key", pa.Table.from_batches([rows]))

    def merged(self, counts: list[pa.Table]) -> pa.Table:
        return self._query("SELECT key, sum(n)::BIGINT AS n FROM given GROUP BY key", pa.concat_tables(counts))

    def arrow(self, results: list[pa.Table]) -> pa.Table:
        return pa.concat_tables(results)

    def _query(self, query: str, given: pa.Table) -> pa.Table:
        self._connection.register("given", given)
        return self._connection.sql(query).to_arrow_table()


class OpenWindow:
    """The partial counts of a window."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._counts: list[Any] = []
        self._rows = 0
        self._rows_max = WAITING_ROWS_MIN

    def add(self, counts: Any) -> None:
        """They wait, unless they are too many."""
        self._counts.append(counts)
        self._rows += len(counts)
        if self._rows > self._rows_max:
            merged = self.merged()
            self._counts, self._rows = [merged], len(merged)
            self._rows_max = max(WAITING_ROWS_MIN, 2 * len(merged))

    def merged(self) -> Any:
        """What there is."""
        return self._engine.merged(self._counts)


class Windows:
    """The windows that are open, and the results of those that are over."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: dict[int, OpenWindow] = {}
        self._newest_micros = 0
        #: Window and counts.
        self.results: list[tuple[int, Any]] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """A batch; windows that are over with it give their results."""
        seen = pc.min_max(batch.column("made_at"))
        first, newest = seen["min"].value // WINDOW_MICROS, seen["max"].value
        last = newest // WINDOW_MICROS
        for window in range(first, last + 1):
            rows = batch if first == last else batch.filter(_is_in(window))
            if window not in self._open:
                self._open[window] = OpenWindow(self._engine)
            self._open[window].add(self._engine.count(rows))
        self._newest_micros = max(self._newest_micros, newest)
        self._end_before((self._newest_micros - LATENESS_SECONDS * 1_000_000) // WINDOW_MICROS)

    def finish(self) -> None:
        """The stream has ended: so have all windows."""
        self._end_before(max(self._open) + 1)

    def _end_before(self, window: int) -> None:
        for over in [one for one in self._open if one < window]:
            self.results.append((over, self._open.pop(over).merged()))


def loop(engine: Engine, subscription: bowstring.Subscription, work: Work) -> pa.Table:
    """All batches; nothing is asked of them but what the work needs."""
    with subscription.iterator() as iterator:
        if work.kind == "filter":
            return engine.arrow([engine.filter(batch) for batch in iterator])
        windows = Windows(engine)
        for batch in iterator:
            windows.add(batch)
    windows.finish()
    tables = [(window, engine.arrow([counts])) for window, counts in windows.results]
    return pa.concat_tables(
        pa.table({"w": pa.repeat(pa.scalar(window), len(counts)), "key": counts["key"], "n": counts["n"]})
        for window, counts in tables
    )


def _is_in(window: int) -> pc.Expression:
    begin, end = (
        pa.scalar(micros, pa.timestamp("us", "UTC"))
        for micros in (window * WINDOW_MICROS, (window + 1) * WINDOW_MICROS)
    )
    return (pc.field("made_at") >= begin) & (pc.field("made_at") < end)


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame

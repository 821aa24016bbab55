"""What a core makes of rows in a flow, beside hand-written loops, Spark and bytewax, on the same rows.

Each contestant is a process, new in every round, which does all works one after the other. Its results are those that
DuckDB has of all rows at once, or there is no figure.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.children import children, python
from bench.data_folder import data_folder
from bench.flow_rows import Work
from bench.report import Floor, Series

FLOW, SAVED_FLOW = "bowstring flow", "bowstring flow, state on disk"
POLARS, DUCKDB = "Polars per micro-batch", "DuckDB per micro-batch"
BYTEWAX, SPARK = "bytewax, fewer rows", "Spark Structured Streaming"
#: What `bench.flow_ends` calls them.
CONTESTANTS = {
    FLOW: "flow",
    SAVED_FLOW: "saved_flow",
    POLARS: "polars",
    DUCKDB: "duckdb",
    BYTEWAX: "bytewax",
    SPARK: "spark",
}
PEERS = [POLARS, DUCKDB, BYTEWAX, SPARK]
#: Whom `make bench` lists when they are ahead.
BEHIND = {FLOW: PEERS, SAVED_FLOW: PEERS}

KEYS = (10, 10_000, 1_000_000)
ROWS, SMOKE_ROWS = 1 << 23, 1 << 18
#: A key that is new takes bytewax a tenth of a millisecond, and more the more there are: all rows would take hours.
BYTEWAX_PART, BYTEWAX_ROWS_MAX = 8, 1 << 17


@dataclass
class Measured:
    """A work's rows per second, of the CPU and of the clock."""

    work: Work
    per_core: Series = field(init=False)
    per_wall: Series = field(init=False)

    def __post_init__(self) -> None:
        self.per_core = Series(f"flow: {self.work.name}", "M rows per CPU second", {}, [FLOW])
        self.per_wall = Series(f"flow: {self.work.name}, wall time", "M rows/s", {}, [FLOW])

    def add(self, name: str, report: Mapping[str, float | list[int]]) -> None:
        """A contestant's round. Raises RuntimeError if its results are wrong."""
        work = self.work_of(name)
        if report["digest"] != expected(work):
            raise RuntimeError(f"{work.name}, {name}: {report['digest']} came instead of {expected(work)}")
        for series, seconds in ((self.per_core, report["cpu_seconds"]), (self.per_wall, report["seconds"])):
            assert isinstance(seconds, float)
            series.values.setdefault(name, []).append(work.rows / seconds / 1e6)

    def work_of(self, name: str) -> Work:
        """The same for all but the slowest."""
        if name != BYTEWAX:
            return self.work
        return replace(self.work, rows=min(self.work.rows // BYTEWAX_PART, BYTEWAX_ROWS_MAX))


def measure_flows(
    rounds: int, rows: int | None = None, contestants: Mapping[str, str] | None = None
) -> tuple[list[Series], list[Floor]]:
    """Every contestant's works in turn."""
    contestants = present() if contestants is None else contestants
    rows = rows or (SMOKE_ROWS if rounds == 1 else ROWS)
    works = [Work("filter", rows, KEYS[1]), *(Work("count", rows, keys) for keys in KEYS)]
    measured = [Measured(work) for work in works]
    for _ in range(rounds):
        for name, end in contestants.items():
            with data_folder() as folder:
                run(name, end, folder, measured)
    return [series for one in measured for series in (one.per_core, one.per_wall)], []


def run(name: str, end: str, folder: Path, measured: Sequence[Measured]) -> None:
    """One contestant's round."""
    works = [one.work_of(name).json() for one in measured]
    with children(python("bench.flow_ends", end, str(folder), *works)) as (child,):
        for one in measured:
            one.add(name, child.report())


@functools.cache
def expected(work: Work) -> list[int]:
    """What DuckDB makes of all rows at once."""
    return work.expected()


def present() -> Mapping[str, str]:
    """All who are installed: bytewax is not for every Python."""
    if importlib.util.find_spec("bytewax") is not None:
        return CONTESTANTS
    print("bytewax is not installed, and left out")
    return {name: end for name, end in CONTESTANTS.items() if name != BYTEWAX}

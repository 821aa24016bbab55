"""`make bench`: interleaved rounds, medians, ratios against peers of the same run, and the floors they must hold.

BENCH_ROUNDS says how many rounds; 1 is a smoke run on little data, whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from bench.load import Load
from bench.relays import RELAYS
from bench.report import Floor, Series, print_floors, print_table, write_json
from bench.spark_paths import measure_spark

CPP = "C++ Flight, pyarrow ends"
TCP = "raw TCP"
RUST = "bowstring, Rust ends"
PYTHON = "bowstring, Python ends"


def loads(smoke: bool) -> tuple[Load, Load]:
    """Large batches, which show the cost per byte, and small ones, which show the cost per batch."""
    return (
        Load("relay of 4 MiB batches", rows=65_536, batches=16 if smoke else 512),
        Load("relay of 100-row batches", rows=100, batches=1_000 if smoke else 40_000),
    )


def measure_relays(load: Load, rounds: int) -> Series:
    """Every relay once per round, in turn, so that a slow minute of the machine hits all of them."""
    series = Series(load.name, "MB/s", {name: [] for name in RELAYS})
    for _ in range(rounds):
        for name, relay in RELAYS.items():
            series.values[name].append(load.bytes / relay(load) / 1e6)
    return series


def main() -> int:
    """Runs it all; non-zero if a floor does not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS", "5")))
    parser.add_argument("--only", choices=["relay", "spark"], help="measure only this part")
    parser.add_argument("--json", type=Path, default=Path("bench/latest.json"), help="where the figures go")
    options = parser.parse_args()
    smoke = options.rounds == 1
    measured: list[Series] = []
    floors: list[Floor] = []
    if options.only != "spark":
        large, small = (measure_relays(load, options.rounds) for load in loads(smoke))
        for series in (large, small):
            print_table(series, against=[CPP, TCP])
        measured += [large, small]
        for ends in (RUST, PYTHON):
            floors.append(Floor(f"4 MiB batches, {ends}, of C++ Flight", large.ratio(ends, CPP), 1.0))
            floors.append(Floor(f"100-row batches, {ends}, of C++ Flight", small.ratio(ends, CPP), 2.0))
    if options.only != "relay":
        spark = measure_spark(options.rounds, rows=1_000_000 if smoke else 10_000_000)
        print_table(spark, against=["Spark's noop"])
        measured.append(spark)
        floors.append(
            Floor("from the executors, of Spark's noop", spark.ratio("Spark to bowstring", "Spark's noop"), 0.35)
        )
        # 7 M rows/s where noop reaches 17 M.
        floors.append(Floor("into Spark, of Spark's noop", spark.ratio("bowstring to Spark", "Spark's noop"), 7 / 17))
    print_floors(floors)
    write_json(options.json, measured, floors, smoke=smoke)
    if smoke:
        print("one round on little data: the figures mean nothing, the floors are not held against it")
        return 0
    return 0 if all(floor.holds for floor in floors) else 1


if __name__ == "__main__":
    sys.exit(main())

"""`make bench`: interleaved rounds, medians, ratios against peers of the same run, and the floors they must hold.

BENCH names the parts, "all" is every one; BENCH_ROUNDS says how many rounds. One round is a smoke run on little data,
whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.cases import Case
from bench.chart import write_chart
from bench.contestants import CONTESTANTS, CPP, PYTHON, RUST, Contestant
from bench.figures import Figures
from bench.kafka_broker import kafka
from bench.parts import (
    COMPARED,
    KAFKA,
    LATENCY_SECONDS,
    LATENCY_SMOKE_SECONDS,
    PARTS,
    RAY,
    RELAY_4_MIB,
    ROWS_100,
    Part,
    part_of,
    smoke,
)
from bench.ray_actor import ray_actor
from bench.report import Floor, Series, as_json, print_floors, print_slower, print_table, write_json

SPARK = "spark"
#: What is measured unless somebody chooses.
CORE = [*(name for name, part in PARTS.items() if part.core), SPARK]


def measure(part: Part, contestants: Mapping[str, Contestant], rounds: int) -> list[Series]:
    """Every case and contestant once per round, in turn, so that a slow minute of the machine hits all of them."""
    cases = [smoke(case) if rounds == 1 else case for case in part.cases]
    seconds = LATENCY_SMOKE_SECONDS if rounds == 1 else LATENCY_SECONDS
    measured = [_series(case, part) for case in cases]
    for _ in range(rounds):
        for case, series in zip(cases, measured, strict=True):
            for name in part.contestants:
                figures = once(contestants[name], case, seconds)
                series.figures[name].append(figures)
                series.values[name].append(figures.latency["p50"] if figures.latency else figures.mb_per_s)
    return measured


@contextmanager
def contestants(part: Part) -> Iterator[Mapping[str, Contestant]]:
    """Everyone, with those who must be started first as long as they are needed."""
    with ExitStack() as stack:
        present = dict(CONTESTANTS)
        if KAFKA in part.contestants:
            present[KAFKA] = stack.enter_context(kafka())
        if RAY in part.contestants:
            present[RAY] = ray_actor
        yield present


def once(contestant: Contestant, case: Case, seconds: float) -> Figures:
    """One contestant's round of a case."""
    if case.work != "latency":
        return contestant(case)
    rate = case.rate or contestant(case.at_full_speed()).batches_per_s / 2
    return contestant(case.at_rate(rate, seconds))


def _series(case: Case, part: Part) -> Series:
    timed = case.work == "latency"
    return Series(
        case.name,
        "us from append to delivery, p50" if timed else "MB/s",
        {name: [] for name in part.contestants},
        against=part.against,
        more_is_better=not timed,
        figures={name: [] for name in part.contestants},
    )


def relay_floors(measured: list[Series]) -> list[Floor]:
    """Against C++ Flight of the same rounds."""
    floors = []
    for name, what, floor in ((RELAY_4_MIB.name, "4 MiB batches", 1.0), (ROWS_100.name, "100-row batches", 2.0)):
        series = next(series for series in measured if series.name == name)
        floors += [Floor(f"{what}, {ends}, of C++ Flight", series.ratio(ends, CPP), floor) for ends in (RUST, PYTHON)]
    return floors


def measure_spark(rounds: int) -> tuple[Series, list[Floor]]:
    """Spark's two paths, and what they must reach of its noop."""
    # It needs pyspark and Java, which the other parts do not.
    from bench.spark_paths import measure_spark as measure_paths

    spark = measure_paths(rounds, rows=1_000_000 if rounds == 1 else 10_000_000)
    spark.against = ["Spark's noop"]
    return spark, [
        Floor("from the executors, of Spark's noop", spark.ratio("Spark to bowstring", "Spark's noop"), 0.35),
        # 7 M rows/s where noop reaches 17 M.
        Floor("into Spark, of Spark's noop", spark.ratio("bowstring to Spark", "Spark's noop"), 7 / 17),
    ]


def chosen(names: list[str]) -> list[str]:
    """The parts by name; "core" and "all" name several."""
    several = {"all": [*PARTS, SPARK], "core": CORE}
    picked = [part for name in names or ["core"] for part in several.get(name, [name])]
    if unknown := [name for name in picked if name not in PARTS and name != SPARK]:
        sys.exit(f"no such part: {', '.join(unknown)}; there are: core, all, {', '.join([*PARTS, SPARK])}")
    return list(dict.fromkeys(picked))


def main() -> int:
    """Runs it all; non-zero if a floor does not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help="what to measure; default: BENCH, or core")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS", "5")))
    parser.add_argument("--json", type=Path, default=Path("bench/latest.json"), help="where the figures go")
    options = parser.parse_args()
    measured: list[Series] = []
    floors: list[Floor] = []
    for name in chosen(options.parts or os.environ.get("BENCH", "").split()):
        if name == SPARK:
            spark, spark_floors = measure_spark(options.rounds)
            print_table(spark)
            measured.append(spark)
            floors += spark_floors
            continue
        try:
            part = part_of(name)
        except ValueError as error:
            sys.exit(str(error))
        with contestants(part) as present:
            series = measure(part, present, options.rounds)
        for one in series:
            print_table(one)
        measured += series
        floors += relay_floors(series) if name == "relay" and {RUST, PYTHON, CPP} <= set(part.contestants) else []
    if options.rounds > 1:
        print_slower(measured, COMPARED)
    print_floors(floors)
    write_json(options.json, as_json(measured, floors, smoke=options.rounds == 1))
    note = f"medians of {options.rounds} interleaved rounds, lines from lowest to highest"
    write_chart(options.json.with_suffix(".svg"), measured, note=note)
    if options.rounds == 1:
        print("one round on little data: the figures mean nothing, the floors are not held against it")
        return 0
    return 0 if all(floor.holds for floor in floors) else 1


if __name__ == "__main__":
    sys.exit(main())

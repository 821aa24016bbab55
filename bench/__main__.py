"""`make bench`: interleaved rounds, medians, ratios against peers of the same run, and the floors they must hold.

BENCH names the parts, "all" is every one; BENCH_ROUNDS says how many rounds. One round is a smoke run on little data,
whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from bench.chart import write_chart
from bench.contestants import CPP, PYTHON, RUST
from bench.durable import BEHIND, MUCH, QUICK, measure_durable
from bench.flows import BEHIND as FLOWS_BEHIND
from bench.flows import measure_flows
from bench.leases import measure_leases
from bench.many import measure_many
from bench.parts import COMPARED, PARTS, RELAY_4_MIB, ROWS_100, part_of
from bench.report import Floor, Series, as_json, print_floors, print_slower, print_table, write_json
from bench.rounds import contestants, measure
from bench.subscriptions import measure_subscriptions


def relay_floors(measured: list[Series]) -> list[Floor]:
    """Against C++ Flight of the same rounds."""
    floors = []
    for name, what, floor in ((RELAY_4_MIB.name, "4 MiB batches", 1.0), (ROWS_100.name, "100-row batches", 2.0)):
        series = next(series for series in measured if series.name == name)
        floors += [Floor(f"{what}, {ends}, of C++ Flight", series.ratio(ends, CPP), floor) for ends in (RUST, PYTHON)]
    return floors


Measured = tuple[list[Series], list[Floor]]


def measure_spark(rounds: int) -> Measured:
    """Spark's two paths, and what they must reach of its noop."""
    # It needs pyspark and Java, which the other parts do not.
    from bench.spark_paths import measure_spark as measure_paths

    spark = measure_paths(rounds, rows=1_000_000 if rounds == 1 else 10_000_000)
    spark.against = ["Spark's noop"]
    return [spark], [
        Floor("from the executors, of Spark's noop", spark.ratio("Spark to bowstring", "Spark's noop"), 0.35),
        # 7 M rows/s where noop reaches 17 M.
        Floor("into Spark, of Spark's noop", spark.ratio("bowstring to Spark", "Spark's noop"), 7 / 17),
    ]


def measure_jvm(rounds: int) -> Measured:
    """The JVM connector, and what it must reach of its peers."""
    from bench.jvm_paths import FOREACH, JVM, JVM_ALONE, PARQUET, PYTHON, THROW_AWAY, measure_jvm

    out, into, aggregate = measure_jvm(rounds, rows=1_000_000 if rounds == 1 else 10_000_000)
    out.against = [THROW_AWAY, PYTHON]
    into.against = aggregate.against = [PARQUET]
    best = max(PYTHON, FOREACH, key=lambda name: out.median(name))
    return [out, into, aggregate], [
        Floor(
            "JVM sink, read later, of a sink that makes Arrow and throws it away", out.ratio(JVM_ALONE, THROW_AWAY), 0.9
        ),
        Floor("JVM sink, of the best Python path", out.ratio(JVM, best), 1.5),
        Floor("JVM source to noop, of Parquet", into.ratio(JVM, PARQUET), 1.0),
        Floor("JVM source to an aggregate, of Parquet", aggregate.ratio(JVM, PARQUET), 1.0),
    ]


def measure_real_time(rounds: int) -> Measured:
    """How old rows are when they are seen, in Spark's Real-time Mode and in micro-batches."""
    from bench.real_time import measure_real_time

    return measure_real_time(rounds)


def measure_ray_spread(rounds: int) -> Measured:
    """A stream over several coordinators that are Ray actors."""
    from bench.ray_spread import measure_ray_spread

    return measure_ray_spread(rounds)


def measure_part(name: str, rounds: int) -> Measured:
    """A part of bench/parts.py."""
    try:
        part = part_of(name)
    except ValueError as error:
        sys.exit(str(error))
    with contestants(part) as present:
        measured = measure(part, present, rounds)
    floors = relay_floors(measured) if name == "relay" and {RUST, PYTHON, CPP} <= set(part.contestants) else []
    return measured, floors


#: Parts that measure more than cases, or other than them.
OTHERS: Mapping[str, Callable[[int], Measured]] = {
    "durable": partial(measure_durable, QUICK),
    "durables": partial(measure_durable, MUCH),
    "spark": measure_spark,
    "jvm": measure_jvm,
    "real_time": measure_real_time,
    "subscriptions": measure_subscriptions,
    "many": measure_many,
    "leases": measure_leases,
    "ray_spread": measure_ray_spread,
    "flows": measure_flows,
}
ALL = [*PARTS, *OTHERS]
#: What is measured unless somebody chooses.
CORE = [*(name for name, part in PARTS.items() if part.core), "durable", "spark"]


def chosen(names: list[str]) -> list[str]:
    """The parts by name; "core" and "all" name several."""
    several = {"all": ALL, "core": CORE}
    picked = [part for name in names or ["core"] for part in several.get(name, [name])]
    if unknown := [name for name in picked if name not in ALL]:
        sys.exit(f"no such part: {', '.join(unknown)}; there are: core, all, {', '.join(ALL)}")
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
        series, part_floors = OTHERS[name](options.rounds) if name in OTHERS else measure_part(name, options.rounds)
        for one in series:
            print_table(one)
        measured += series
        floors += part_floors
    if options.rounds > 1:
        print_slower(measured, {**COMPARED, **BEHIND, **FLOWS_BEHIND})
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

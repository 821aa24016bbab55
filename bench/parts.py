"""What `make bench` can measure, by name: the cases of each part, who takes part, and against whom."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.cases import Case
from bench.contestants import (
    CPP,
    OTHER,
    PYARROW,
    PYTHON,
    PYTHON_SHARED,
    RAW_TCP,
    RAW_UNIX,
    RUST,
    RUST_SHARED,
    RUST_UNIX,
    STOCK,
)

KIB, MIB = 1 << 10, 1 << 20
SIZES = {"1 KiB": KIB, "64 KiB": 64 * KIB, "1 MiB": MIB, "4 MiB": 4 * MIB, "64 MiB": 64 * MIB}
#: A run carries so much, and a smoke run so much of it; small batches cost by their number.
RUN_BYTES, RUN_BATCHES, SMOKE = 2 << 30, 40_000, 40
LATENCY_SECONDS, LATENCY_SMOKE_SECONDS = 3.0, 0.5

OURS = [RUST, RUST_UNIX, RUST_SHARED, PYTHON, PYTHON_SHARED, PYARROW]
FLIGHTS = [CPP, STOCK, *OURS]
ALL = [RAW_TCP, RAW_UNIX, *FLIGHTS]
KAFKA, RAY = "Kafka", "Ray actor"
#: Whose peers are whose: ends in Python are compared with ends in Python.
COMPARED = {
    RUST: [CPP, STOCK, KAFKA, RAY],
    RUST_SHARED: [CPP, STOCK, KAFKA, RAY],
    PYTHON: [CPP, KAFKA, RAY],
    PYTHON_SHARED: [CPP, KAFKA, RAY],
    PYARROW: [CPP],
}


@dataclass(frozen=True)
class Part:
    """Cases that are measured together."""

    doc: str
    cases: Sequence[Case]
    contestants: Sequence[str]
    #: Whom ratios are of; the first is the peer that we must not be slower than.
    against: Sequence[str]
    #: Measured unless somebody chooses.
    core: bool = False


def case(work: str, size: str, **more: object) -> Case:
    """A case of a size by name."""
    batch_bytes = SIZES[size]
    batches = max(16, min(RUN_BATCHES, RUN_BYTES // batch_bytes))
    made = Case(f"{work} of {size} batches", work, batch_bytes, batches)
    return replace(made, **more)  # type: ignore[arg-type]


def latency(rate: float) -> Case:
    """1 KiB batches at a rate; 0 is half of the maximum."""
    name = f"latency of 1 KiB batches at {f'{rate:g}/s' if rate else 'half of the maximum'}"
    return Case(name, "latency", KIB, RUN_BATCHES, rate=rate)


#: 100 rows of eight int64: the small batches that the floors are of.
ROWS_100 = Case("relay of 100-row batches", "relay", 6400, RUN_BATCHES)
RELAY_4_MIB = replace(case("relay", "4 MiB"), batches=512)

PARTS: dict[str, Part] = {
    "relay": Part("relay of 4 MiB and of 100-row batches", [RELAY_4_MIB, ROWS_100], ALL, [CPP, RAW_TCP], core=True),
    "put": Part("DoPut alone, 4 MiB", [case("put", "4 MiB")], ALL, [CPP, RAW_TCP], core=True),
    "get": Part("DoGet alone, 4 MiB", [case("get", "4 MiB")], ALL, [CPP, RAW_TCP], core=True),
    "latency": Part("append to delivery at 1,000/s", [latency(1000)], ALL, [CPP, RAW_TCP], core=True),
    "small": Part("relay of 1 KiB batches", [case("relay", "1 KiB", batches=4 * RUN_BATCHES)], ALL, [CPP, RAW_TCP]),
    "sizes": Part(
        "put, get and relay of 1 KiB to 64 MiB",
        [case(work, size) for work in ("put", "get", "relay") for size in SIZES],
        ALL,
        [CPP, RAW_TCP],
    ),
    "latencies": Part(
        "append to delivery at 100/s, 1,000/s and half of the maximum",
        [latency(100), latency(1000), latency(0)],
        ALL,
        [CPP, RAW_TCP],
    ),
    "columns": Part(
        "relay of fixed-width, string and nested columns",
        [
            case("relay", "4 MiB", name=f"relay of 4 MiB batches, {columns}", columns=columns)
            for columns in ("fixed", "string", "nested")
        ],
        [CPP, *OURS],
        [CPP],
    ),
    "fan-out": Part(
        "to 1, 4 and 16 consumers",
        [
            case("fan-out", "1 MiB", name=f"fan-out of 1 MiB batches to {count}", consumers=count, batches=512)
            for count in (1, 4, 16)
        ],
        [RUST],
        [],
    ),
    "partitions": Part(
        "relay over 1, 16 and 256 partitions",
        [
            case("relay", size, name=f"relay of {size} batches, {count} partitions", partitions=count)
            for size in ("1 KiB", "1 MiB")
            for count in (1, 16, 256)
        ],
        [RUST],
        [],
    ),
    "streams": Part(
        "relay over 1, 100 and 1,000 streams",
        [
            case("relay", "64 KiB", name=f"relay of 64 KiB batches, {count} streams", streams=count)
            for count in (1, 100, 1000)
        ],
        [RUST],
        [],
    ),
    "kafka": Part(
        "against a Kafka broker: relay and latency",
        [*(case("relay", size) for size in ("1 KiB", "64 KiB", "4 MiB")), latency(100), latency(1000)],
        [KAFKA, RUST, RUST_SHARED, PYTHON, PYTHON_SHARED],
        [KAFKA],
    ),
    "ray": Part(
        "against a buffer in a Ray actor: relay and latency",
        [*(case("relay", size) for size in ("1 KiB", "64 KiB", "4 MiB")), latency(100)],
        [RAY, RUST, RUST_SHARED, PYTHON, PYTHON_SHARED],
        [RAY],
    ),
}


def part_of(name: str) -> Part:
    """The part, with those who are to take part.

    BENCH_OTHER, the path of another build of bowstring, adds that; BENCH_WHO, names with semicolons between them,
    leaves all others out. Raises ValueError for a name that takes no part anywhere.
    """
    part = PARTS[name]
    if os.environ.get("BENCH_OTHER") and RUST in part.contestants:
        part = replace(part, contestants=[*part.contestants, OTHER], against=[*part.against, OTHER])
    who = [one.strip() for one in os.environ.get("BENCH_WHO", "").split(";") if one.strip()]
    if not who:
        return part
    if unknown := set(who) - {one for each in PARTS.values() for one in each.contestants} - {OTHER}:
        known = "; ".join(part.contestants)
        raise ValueError(f"BENCH_WHO names {', '.join(sorted(unknown))}; in {name} there are: {known}")
    contestants = [one for one in part.contestants if one in who]
    return replace(part, contestants=contestants, against=[one for one in part.against if one in contestants])


def smoke(one: Case) -> Case:
    """The same on little data."""
    return replace(one, batches=max(4 * one.streams, one.batches // SMOKE))

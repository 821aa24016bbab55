"""Interleaved rounds: every case and every contestant in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from bench.cases import Case
from bench.contestants import CONTESTANTS, Contestant
from bench.figures import Figures
from bench.kafka_broker import kafka
from bench.parts import KAFKA, LATENCY_SECONDS, LATENCY_SMOKE_SECONDS, RAY, Part, smoke
from bench.ray_actor import ray_actor
from bench.report import Series


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
                series.values[name].append(figures.latency["p50"] if case.work == "latency" else figures.mb_per_s)
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

"""What it costs to be handed batches by leases: each mode of a subscription beside "static", where consumers choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import bowstring
from bench.cases import Case
from bench.children import carry, children
from bench.contestants import listening, rust_end, serve
from bench.figures import Figures
from bench.parts import KIB
from bench.report import Floor, Series, counted

STREAM, SUBSCRIPTION = "leases", "team"
STATIC, PARTITIONED, SHARED = "static", "partitioned", "shared"
#: As `subscription create --mode` names them; the first is what the others are compared with.
MODES = (STATIC, PARTITIONED, SHARED)
PARTITIONS = 4
#: Consumers, each a process, that divide the partitions.
CONSUMERS = (1, 4)


@dataclass(frozen=True)
class Amount:
    """Sizes of batches by name, and how many of each."""

    sizes: Sequence[tuple[str, int, int]]


MUCH = Amount([("1 KiB", KIB, 160_000), ("64 KiB", 64 * KIB, 20_000)])
SMOKE = Amount([("1 KiB", KIB, 400), ("64 KiB", 64 * KIB, 100)])


class Measured:
    """A case's series: batches per second, and what each costs."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.speed = Series(case.name, "batches/s", {}, MODES[:1])
        self.cpu = {
            process: Series(f"{case.name}: {whose} CPU", "us per batch", {}, MODES[:1], more_is_better=False)
            for process, whose in (("coordinator", "coordinator's"), ("consumers", "consumers'"))
        }

    def add(self, mode: str, shown: Figures) -> None:
        """A round of one mode."""
        self.speed.values.setdefault(mode, []).append(shown.batches_per_s)
        self.speed.figures.setdefault(mode, []).append(shown)
        for process, series in self.cpu.items():
            series.values.setdefault(mode, []).append(shown.cpu_us_per_batch(process))


def measure_leases(rounds: int, amount: Amount | None = None) -> tuple[list[Series], list[Floor]]:
    """Every size with every number of consumers and every mode in turn, each with a coordinator of its own."""
    amount = amount or (SMOKE if rounds == 1 else MUCH)
    measured = [
        Measured(case(size, batch_bytes, batches, consumers))
        for size, batch_bytes, batches in amount.sizes
        for consumers in CONSUMERS
    ]
    for _ in range(rounds):
        for one in measured:
            for mode in MODES:
                one.add(mode, shared(one.case, mode))
    return [series for one in measured for series in (one.speed, *one.cpu.values())], []


def case(size: str, batch_bytes: int, batches: int, consumers: int) -> Case:
    """A stream of a few partitions whose batches so many consumers divide."""
    name = f"{size} batches, {PARTITIONS} partitions, {counted(consumers, 'consumer')} of one subscription"
    return Case(name, "relay", batch_bytes, batches, partitions=PARTITIONS, consumers=consumers)


def shared(case: Case, mode: str) -> Figures:
    """All of it, each batch to one of the consumers, which ack one by one."""
    with children(serve()) as (server,):
        url = listening(server)
        bowstring.connect(url).create_stream(f"{STREAM}-0", partitions=case.partitions)
        reading = [rust_end("read", url, STREAM, case, *reads(case, mode, number)) for number in range(case.consumers)]
        shown = carry(server, rust_end("append", url, STREAM, case), *reading)
        if shown.batches != case.batches:
            raise RuntimeError(f"{case.name}, {mode}: {shown.batches} of {case.batches} batches came")
        return shown


def reads(case: Case, mode: str, number: int) -> list[str]:
    """What one of the consumers says."""
    flags = ["--subscription", SUBSCRIPTION, "--mode", mode]
    if mode != STATIC:
        return flags
    own = range(number, case.partitions, case.consumers)
    return [*flags, "--partitions", ",".join(str(partition) for partition in own)]

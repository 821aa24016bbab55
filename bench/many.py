"""Many streams on one coordinator, each with a consumer and a producer: their memory, and how long a batch's way is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import bowstring
from bench.cases import Case
from bench.children import Child, carried, children
from bench.contestants import listening, rust_end, serve
from bench.ends import READY
from bench.figures import Figures
from bench.parts import KIB
from bench.report import Floor, Series, counted

STREAM, SUBSCRIPTION = "many", "each"
#: Of all streams together.
RATE = 1000.0


@dataclass(frozen=True)
class Amount:
    """How much of it all."""

    #: Streams; the first number is what the others are compared with.
    counts: Sequence[int]
    #: How long batches come. All consumers ack the first one at once when that begins, and for a while all else waits.
    seconds: float
    #: How long nothing comes before, while all are connected.
    idle_seconds: float


MUCH = Amount(counts=(1, 1000), seconds=30.0, idle_seconds=5.0)
SMOKE = Amount(counts=(1, 1000), seconds=2.0, idle_seconds=0.2)


@dataclass(frozen=True)
class Memory:
    """What a coordinator has in memory, in bytes, one step after the other."""

    started: int
    streams: int
    consumers: int
    producers: int
    #: After the batches.
    done: int
    peak: int


@dataclass(frozen=True)
class Shown:
    """What one coordinator has shown."""

    memory: Memory
    #: CPU seconds per second while nothing came.
    idle: float
    #: CPU microseconds per batch that came at the rate.
    cpu_us: float
    figures: Figures


class Measured:
    """All series, with a contestant for each number of streams."""

    def __init__(self, amount: Amount) -> None:
        first = [counted(amount.counts[0], "stream")]
        what = f"1 KiB batches at {RATE:g}/s over all streams"
        self.latency = {
            quantile: Series(f"{what}: latency, {quantile}", "us", {}, first, more_is_better=False)
            for quantile in ("p50", "p99")
        }
        self.cpu = Series(f"{what}: coordinator's CPU", "us per batch", {}, first, more_is_better=False)
        self.idle = Series("coordinator's CPU while nothing comes", "ms/s", {}, more_is_better=False)
        self.total = Series("coordinator's memory with many streams", "MB", {}, more_is_better=False)
        self.each = Series("coordinator's memory for one more of many", "KB", {}, more_is_better=False)

    def series(self) -> list[Series]:
        """In the order in which they are shown."""
        return [*self.latency.values(), self.cpu, self.idle, self.total, self.each]

    def add(self, count: int, shown: Shown) -> None:
        """A round with so many streams."""
        name, figures = counted(count, "stream"), shown.figures
        assert figures.latency, "batches came with stamps"
        self.latency["p50"].figures.setdefault(name, []).append(figures)
        for quantile, series in self.latency.items():
            series.values.setdefault(name, []).append(figures.latency[quantile])
        self.cpu.values.setdefault(name, []).append(shown.cpu_us)
        self.idle.values.setdefault(name, []).append(shown.idle * 1e3)
        self._remember(count, shown.memory)

    def _remember(self, count: int, memory: Memory) -> None:
        name = counted(count, "stream")
        steps = {
            "as it starts": memory.started,
            "created": memory.streams,
            "and consumers": memory.consumers,
            "and producers": memory.producers,
            "after the batches": memory.done,
            "most": memory.peak,
        }
        for step, size in steps.items():
            self.total.values.setdefault(f"{name}, {step}", []).append(size / 1e6)
        if count == 1:
            return
        more = {
            "a stream with nothing in it": memory.streams - memory.started,
            "a consumer, connected": memory.consumers - memory.streams,
            "a producer, and its first batch": memory.producers - memory.consumers,
        }
        for what, size in more.items():
            self.each.values.setdefault(f"{what}, of {count:,}", []).append(size / 1e3 / count)


def measure_many(rounds: int, amount: Amount | None = None) -> tuple[list[Series], list[Floor]]:
    """Every number of streams in turn, each with a coordinator of its own."""
    amount = amount or (SMOKE if rounds == 1 else MUCH)
    measured = Measured(amount)
    for _ in range(rounds):
        for count in amount.counts:
            measured.add(count, once(count, amount))
    return measured.series(), []


def once(count: int, amount: Amount) -> Shown:
    """So many streams; their consumers are in one process, as their producers are."""
    batches = max(count, round(RATE * amount.seconds))
    case = Case("many", "latency", KIB, batches, streams=count, rate=RATE)
    with children(serve()) as (server,):
        url = listening(server)
        started = server.resident_bytes()
        client = bowstring.connect(url)
        for number in range(count):
            client.create_stream(f"{STREAM}-{number}")
            client.subscribe(f"{STREAM}-{number}", SUBSCRIPTION)
        streams = server.resident_bytes()
        with children(rust_end("read", url, STREAM, case, "--subscription", SUBSCRIPTION)) as (reader,):
            reader.expect(READY)
            consumers = server.resident_bytes()
            # A producer connects with its first batch.
            with children(rust_end("append", url, STREAM, case, "--fill", "1")) as (producer,):
                producer.expect(READY)
                producers = server.resident_bytes()
                idle = idle_cpu(server, amount.idle_seconds)
                figures = carried(server, producer, [reader])
        if figures.batches != batches + count:
            raise RuntimeError(
                f"{figures.batches} of {batches + count} batches came through {counted(count, 'stream')}"
            )
        memory = Memory(started, streams, consumers, producers, server.resident_bytes(), server.peak_bytes())
        # The first of each stream came before the time ran.
        cpu_us = figures.cpu_us_per_batch("coordinator") * figures.batches / batches
        return Shown(memory, idle, cpu_us, figures)


def idle_cpu(server: Child, seconds: float) -> float:
    """CPU seconds per second of a coordinator to which nothing comes."""
    before = server.cpu_seconds()
    time.sleep(seconds)
    after = server.cpu_seconds()
    assert before is not None, "memory has been measured, so this is Linux"
    assert after is not None, "as before"
    return (after - before) / seconds

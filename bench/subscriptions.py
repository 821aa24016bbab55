"""What more subscriptions of one stream cost the coordinator: CPU per GB that it delivers, and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import bowstring
from bench.cases import Case
from bench.children import Child, carry, children
from bench.contestants import listening, rust_end, serve
from bench.figures import Figures
from bench.parts import KIB, MIB
from bench.report import Floor, Series, counted

STREAM = "subscriptions"
#: What a delivery costs that is a send and nothing else: the same batches, stored before and read by one, without acks.
SENDS_ALONE = "read alone, once"


@dataclass(frozen=True)
class Kind:
    """What becomes of a stream's subscriptions."""

    name: str
    #: Each has a consumer; if not, only the first one has.
    each_is_read: bool
    #: What the coordinator's memory with one subscription is of that with a hundred, at least.
    memory_floor: float
    #: What the others do that hold room which is needed.
    on_overflow: str = "hold"
    #: Everything is appended before anything is read, and the others hold it until they are acked at the end.
    all_is_held: bool = False


#: Each connection of a consumer takes memory for itself; subscriptions that nobody reads take none worth speaking of.
READ = Kind("each read by a consumer", each_is_read=True, memory_floor=0.4)
SKIP = Kind("one read, the others skip", each_is_read=False, memory_floor=0.8, on_overflow="skip")
HELD = Kind("all held, then one read and the others acked", each_is_read=False, memory_floor=0.8, all_is_held=True)


@dataclass(frozen=True)
class Load:
    """A kind of subscriptions and a size of batches."""

    kind: Kind
    size: str
    batch_bytes: int
    #: By the Unix socket and shared memory rather than over TCP.
    local: bool = False

    def case(self, batches: Mapping[int, int]) -> Case:
        """What is appended, and what each subscription gets that is read."""
        way = "by shared memory" if self.local else "over TCP"
        name = f"{self.size} batches {way}, {self.kind.name}"
        return Case(name, "relay", self.batch_bytes, batches[self.batch_bytes])


@dataclass(frozen=True)
class Amount:
    """How much of it all."""

    #: Subscriptions; the first number is what the others are compared with.
    counts: Sequence[int]
    #: Batches that are appended, by their size.
    batches: Mapping[int, int]


LOADS = [
    Load(READ, "1 KiB", KIB),
    Load(READ, "1 MiB", MIB),
    Load(READ, "1 MiB", MIB, local=True),
    Load(SKIP, "1 KiB", KIB),
    Load(SKIP, "1 MiB", MIB),
    Load(HELD, "1 MiB", MIB),
]
MUCH = Amount(counts=(1, 10, 100), batches={KIB: 40_000, MIB: 512})
SMOKE = Amount(counts=(1, 10, 100), batches={KIB: 400, MIB: 8})
#: With 100 subscriptions, of what it is with one.
COUNT_OF_FLOORS = 100

#: A hundredth of the batch's way in is in each delivery then.
CPU_FLOOR = 1.0


@dataclass(frozen=True)
class Shown:
    """What one coordinator has shown."""

    figures: Figures
    peak_bytes: int


class Measured:
    """A load's series: what is delivered, what that costs, and what lies in memory meanwhile."""

    def __init__(self, load: Load, case: Case, amount: Amount) -> None:
        self.load = load
        self.case = case
        self.names = {count: counted(count, "subscription") for count in amount.counts}
        against = [self.names[amount.counts[0]], *([SENDS_ALONE] if load.kind is READ else [])]
        self.delivered = Series(case.name, "MB/s delivered", {}, against)
        self.cpu = Series(f"{case.name}: coordinator's CPU", "s/GB delivered", {}, against, more_is_better=False)
        self.memory = Series(f"{case.name}: coordinator's most memory", "MB", {}, against[:1], more_is_better=False)

    def add(self, name: str, shown: Shown) -> None:
        """A round of one contestant."""
        self.delivered.values.setdefault(name, []).append(shown.figures.mb_per_s)
        self.delivered.figures.setdefault(name, []).append(shown.figures)
        self.cpu.values.setdefault(name, []).append(shown.figures.cpu_s_per_gb("coordinator"))
        if name != SENDS_ALONE:
            # There it is what was stored before.
            self.memory.values.setdefault(name, []).append(shown.peak_bytes / 1e6)

    def floors(self) -> list[Floor]:
        """One subscription, of a hundred: neither CPU per GB delivered nor memory may grow with their number."""
        if COUNT_OF_FLOORS not in self.names:
            return []
        one, many = self.delivered.against[0], self.names[COUNT_OF_FLOORS]
        floors = [
            Floor(f"memory with 1, of 100: {self.case.name}", self.memory.ratio(one, many), self.load.kind.memory_floor)
        ]
        if self.load.kind is READ:
            floors.append(Floor(f"CPU/GB with 1, of 100: {self.case.name}", self.cpu.ratio(one, many), CPU_FLOOR))
        return floors


def measure_subscriptions(rounds: int, amount: Amount | None = None) -> tuple[list[Series], list[Floor]]:
    """Every load with every number of subscriptions in turn, each with a coordinator of its own."""
    amount = amount or (SMOKE if rounds == 1 else MUCH)
    measured = [Measured(load, load.case(amount.batches), amount) for load in LOADS]
    for _ in range(rounds):
        for one in measured:
            for count, name in one.names.items():
                one.add(name, subscribed(one.load, one.case, count))
            if one.load.kind is READ:
                one.add(SENDS_ALONE, sent(one.load, one.case))
    series = [series for one in measured for series in (one.delivered, one.cpu, one.memory)]
    return series, [floor for one in measured for floor in one.floors()]


def subscribed(load: Load, case: Case, count: int) -> Shown:
    """All of it through a stream with so many subscriptions."""
    kind, read = load.kind, count if load.kind.each_is_read else 1
    others = [f"other-{number}" for number in range(count - read)]
    room = {"max_buffered_batches": case.batches, "max_buffered_bytes": held_bytes(case)} if kind.all_is_held else {}
    with children(serve(local=load.local)) as (server,):
        url = listening(server)
        client = bowstring.connect(url)
        client.create_stream(f"{STREAM}-0", **room)
        for name in others:
            client.subscribe(f"{STREAM}-0", name, on_overflow=kind.on_overflow)
        reading = rust_end("read", url, STREAM, case, "--subscription", "read", "--subscriptions", str(read))
        appending = rust_end("append", url, STREAM, case)
        if kind.all_is_held:
            carry(server, appending)
            expect(case.name, client.describe_stream(f"{STREAM}-0")["buffered_batches"], case.batches, "held")
        figures = carry(server, None if kind.all_is_held else appending, reading)
        expect(case.name, figures.batches, case.batches * read, "delivered")
        for name in others if kind.all_is_held else []:
            client.ack(f"{STREAM}-0", name, {0: case.batches})
        described = client.describe_stream(f"{STREAM}-0")
        expect(case.name, len(described["subscriptions"]), count, "subscriptions")
        if kind.each_is_read or kind.all_is_held:
            expect(case.name, described["buffered_batches"], 0, "held, though all is acked")
        return shown(server, figures)


def sent(load: Load, case: Case) -> Shown:
    """All of it read by one, which acks nothing, from where it was stored before."""
    with children(serve(local=load.local)) as (server,):
        url = listening(server)
        room = {"max_buffered_batches": case.batches, "max_buffered_bytes": held_bytes(case)}
        bowstring.connect(url).create_stream(f"{STREAM}-0", **room)
        carry(server, rust_end("append", url, STREAM, case))
        figures = carry(server, None, rust_end("read", url, STREAM, case))
        expect(case.name, figures.batches, case.batches, "read")
        return shown(server, figures)


def shown(server: Child, figures: Figures) -> Shown:
    """The figures, and what the coordinator has had at most until now."""
    return Shown(figures, server.peak_bytes())


def held_bytes(case: Case) -> int:
    """Room for all batches, whose headers and padding come to their own bytes."""
    return max(2 << 30, case.batches * (2 * case.batch_bytes + 4 * KIB))


def expect(name: str, found: int, expected: int, what: str) -> None:
    """A benchmark of something else than was meant says nothing."""
    if found != expected:
        raise RuntimeError(f"{name}: {found} {what} where there should be {expected}")

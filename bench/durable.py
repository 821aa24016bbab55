"""What durable streams cost: against the same streams in memory, and against plain files on the same disk."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from os import environ

import bowstring
from bench.cases import Case
from bench.children import carry, children
from bench.contestants import PEERS, Contestant, bench, listening, ours_rust, serve
from bench.data_folder import data_folder
from bench.figures import Figures, figures
from bench.parts import KIB, MIB, Part
from bench.recovery import measure_recovery
from bench.report import Floor, Series, counted
from bench.rounds import measure

MEMORY, DURABLE, DURABLE_SHARED = "bowstring in memory", "bowstring durable", "bowstring durable, shared memory"
PLAIN, DIRECT = "plain write + fsync", "plain write + fsync, O_DIRECT"
#: It gives the page cache of all files but the newest back, as a log does.
PLAIN_THRIFTY = "plain write + fsync, cache given back"
CACHED_FILES = 2
#: Whom `make bench` lists when they are slower.
BEHIND = {DURABLE: [PLAIN, PLAIN_THRIFTY], DURABLE_SHARED: [PLAIN, PLAIN_THRIFTY]}

#: As a partition's log is cut into segments.
FILE_BYTES = 64 * MIB
#: A log to which one producer appends 4 MiB batches is made durable about as often: three times per file (`strace`).
SYNC_BYTES = 24 * MIB
#: Rows of eight int64 in a batch of 1 KiB.
CONFIRMED_ROWS = 16
RECOVERED_BATCH_BYTES = 64 * KIB
#: A virtual machine's host takes back memory that is free for so long. Whoever writes sooner gets what the one before
#: has let go, and is several times as fast for as long as that lasts.
PAUSE_SECONDS = 2.5


@dataclass(frozen=True)
class Amount:
    """How much of it all."""

    relay_bytes: int
    relay_batches: int
    ingest_bytes: int
    ingest: Sequence[str]
    #: Of each number of producers.
    seconds: float
    #: Producers, and the streams that they append to.
    producers: Sequence[tuple[int, int]]
    #: A write and its sync, of 4 KiB; a tenth of it of 4 MiB.
    syncs: int
    recovery_bytes: int
    #: So that it all takes less than a minute.
    rounds_max: int = 1000


QUICK = Amount(
    relay_bytes=48 * MIB,
    relay_batches=10_000,
    ingest_bytes=512 * MIB,
    ingest=[PLAIN, PLAIN_THRIFTY, DURABLE, DIRECT],
    seconds=0.25,
    producers=[(1, 1), (8, 8), (64, 64)],
    syncs=50,
    recovery_bytes=256 * MIB,
    rounds_max=2,
)
MUCH = Amount(
    relay_bytes=512 * MIB,
    relay_batches=80_000,
    ingest_bytes=2048 * MIB,
    ingest=[PLAIN, PLAIN_THRIFTY, DURABLE, DURABLE_SHARED, DIRECT],
    seconds=1.5,
    producers=[(1, 1), (8, 1), (8, 8), (64, 1), (64, 64)],
    syncs=1000,
    recovery_bytes=2 << 30,
)
SMOKE = Amount(
    relay_bytes=8 * MIB,
    relay_batches=500,
    ingest_bytes=16 * MIB,
    ingest=[PLAIN, PLAIN_THRIFTY, DURABLE, DIRECT],
    seconds=0.05,
    producers=[(1, 1), (8, 8)],
    syncs=20,
    recovery_bytes=64 * MIB,
)


def measure_durable(amount: Amount, rounds: int) -> tuple[list[Series], list[Floor]]:
    """All of it; BENCH_RECOVERY_BYTES says how large a log recovery is measured with."""
    amount, rounds = (SMOKE, 1) if rounds == 1 else (amount, min(rounds, amount.rounds_max))
    amount = replace(amount, recovery_bytes=int(environ.get("BENCH_RECOVERY_BYTES", amount.recovery_bytes)))
    measured = [
        *measure(relays(amount), {MEMORY: ours_rust, DURABLE: durable}, rounds),
        *measure(
            Part("durable ingest alone", [ingest(amount)], amount.ingest, [PLAIN, PLAIN_THRIFTY]),
            ingesting(0 if rounds == 1 else PAUSE_SECONDS),
            rounds,
        ),
        *measure_confirmed("epochs", amount, rounds),
        *measure_confirmed("appends", amount, rounds),
        measure_syncs(amount.syncs, rounds),
        measure_recovery(rounds, total_bytes=amount.recovery_bytes, batch_bytes=RECOVERED_BATCH_BYTES),
    ]
    return measured, []


def relays(amount: Amount) -> Part:
    """Append and read at once, batches of three sizes."""
    cases = []
    for size, batch_bytes in {"1 KiB": KIB, "64 KiB": 64 * KIB, "4 MiB": 4 * MIB}.items():
        batches = min(amount.relay_batches, amount.relay_bytes // batch_bytes)
        cases.append(Case(f"relay of {size} batches, durable", "relay", batch_bytes, max(2, batches)))
    return Part("durable relay", cases, [MEMORY, DURABLE], [MEMORY])


def ingest(amount: Amount) -> Case:
    """A producer and nobody who reads."""
    return Case("durable ingest of 4 MiB batches", "put", 4 * MIB, amount.ingest_bytes // (4 * MIB))


def ingesting(pause_seconds: float) -> Mapping[str, Contestant]:
    """Who writes to the disk alone, each a while after the one before."""

    def after_a_pause(contestant: Contestant, case: Case) -> Figures:
        time.sleep(pause_seconds)
        return contestant(case)

    through_cache = {PLAIN: plain, PLAIN_THRIFTY: thrifty, DURABLE: durable, DURABLE_SHARED: durable_shared}
    paused = {name: partial(after_a_pause, contestant) for name, contestant in through_cache.items()}
    return {**paused, DIRECT: direct}


def durable(case: Case) -> Figures:
    """A coordinator with a data directory, with Rust ends over TCP."""
    with data_folder() as folder:
        return bench(case, BOWSTRING_DATA_DIR=str(folder), BOWSTRING_UNIX="off")


def durable_shared(case: Case) -> Figures:
    """The same as clients choose by themselves."""
    with data_folder() as folder:
        return bench(case, BOWSTRING_DATA_DIR=str(folder))


def plain(case: Case) -> Figures:
    """The same bytes from as many batches in memory to files of the same size, made durable as often: nothing else."""
    return _plain_but(case=case)


def _plain_but(*more: str, case: Case) -> Figures:
    with data_folder() as folder:
        sizes = [
            str(case.batch_bytes),
            str(case.batches),
            "--file-bytes",
            str(FILE_BYTES),
            "--sync-bytes",
            str(SYNC_BYTES),
        ]
        return _alone([PEERS, "disk-write", str(folder), *sizes, *more])


def thrifty(case: Case) -> Figures:
    """The same, but what is written does not stay in the system's cache for long."""
    return _plain_but("--cached-files", str(CACHED_FILES), case=case)


def direct(case: Case) -> Figures:
    """The same past the system's cache: the disk's limit."""
    return _plain_but("--direct", case=case)


def measure_confirmed(what: str, amount: Amount, rounds: int) -> list[Series]:
    """Answers per second to producers that wait for each before they go on."""
    noun = {"epochs": "commits", "appends": "confirmed appends"}[what]
    measured = [
        Series(
            f"{noun} of one 1 KiB batch, {counted(producers, 'producer')} on {counted(streams, 'stream')}",
            f"{noun}/s",
            {MEMORY: [], DURABLE: []},
            against=[MEMORY],
            figures={MEMORY: [], DURABLE: []},
        )
        for producers, streams in amount.producers
    ]
    with data_folder() as folder, children(serve(), serve(data_dir=folder)) as servers:
        urls = [listening(server) for server in servers]
        for _ in range(rounds):
            for series, (producers, streams) in zip(measured, amount.producers, strict=True):
                for name, server, url in zip(series.values, servers, urls, strict=True):
                    with _streams(url, streams) as prefix:
                        end = [PEERS, "confirm", url, prefix, what, str(CONFIRMED_ROWS), "--producers", str(producers)]
                        end += ["--streams", str(streams), "--seconds", str(amount.seconds)]
                        # CPU per byte says nothing of batches that have none.
                        shown = replace(carry(server, end, None), cpu={})
                    series.figures[name].append(shown)
                    series.values[name].append(shown.batches_per_s)
    return measured


@contextmanager
def _streams(url: str, count: int) -> Iterator[str]:
    """So many streams that nobody reads; in memory the oldest batches go."""
    client = bowstring.connect(url)
    names = [f"confirmed-{number}" for number in range(count)]
    for name in names:
        client.create_stream(name, full_policy="drop_oldest")
    yield "confirmed"
    for name in names:
        client.delete_stream(name)


def measure_syncs(count: int, rounds: int) -> Series:
    """What the disk takes to make one write durable, with nothing else to do."""
    series = Series("fdatasync after an append", "us", {}, more_is_better=False)
    for _ in range(rounds):
        for size, bytes_, writes in (("4 KiB", 4 * KIB, count), ("4 MiB", 4 * MIB, max(2, count // 10))):
            with data_folder() as folder:
                shown = _alone([PEERS, "disk-sync", str(folder), str(bytes_), str(writes)])
            assert shown.latency
            for quantile in ("p50", "p99"):
                series.values.setdefault(f"after {size}, {quantile}", []).append(shown.latency[quantile])
    return series


def _alone(command: list[str]) -> Figures:
    """An end that needs no server."""
    with children(command) as (end,):
        end.expect("ready")
        end.go()
        return figures(end.report(), [], None)

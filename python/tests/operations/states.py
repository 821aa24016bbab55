"""The state that each alert is for, made for real: a function per alert, which says the labels that it fires with."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

import bowstring

from ..support import filler, numbered

Labels = dict[str, str]
#: What in rules no test can wait for, or is too quick for: as it is, and as it is tested.
THRESHOLDS = {
    "BowstringRestarts": ("[30m]", "[90s]"),
    "BowstringConnectionsNearCap": ("> 0.8 *", "> 0.002 *"),
    "BowstringDeliverySlow": ("> 30", "> 0.9"),
    "BowstringLagTooOld": ("> 600", "> 2"),
    "BowstringLagGrows": ("> 60", "> 1"),
    "BowstringSubscriptionStands": ("> 300", "> 2"),
}


@dataclass
class Sick:
    """Coordinators of which much is wrong, and what goes on being wrong until the end."""

    #: Its streams are in memory.
    memory: bowstring.Client
    #: So are those of this one, and the folder of its spool is gone.
    spool_less: bowstring.Client
    #: Its streams are on a disk that has room.
    disk: bowstring.Client
    #: Its streams are on a disk that is full.
    full: bowstring.Client
    held: list[Any] = field(default_factory=list)
    ending: Event = field(default_factory=Event)
    threads: list[Thread] = field(default_factory=list)

    def again_and_again(self, step: Callable[[int], object], every: float = 0.2) -> None:
        """Does something until the end."""

        def run() -> None:
            number = 0
            while not self.ending.wait(every):
                step(number)
                number += 1

        self.threads.append(Thread(target=run, daemon=True))
        self.threads[-1].start()

    def end(self) -> None:
        """Ends what goes on; the coordinators are ended by who started them."""
        self.ending.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()


def connections(sick: Sick) -> Labels:
    for _ in range(30):
        client = flight.connect(sick.disk.url)
        list(client.list_flights())
        sick.held.append(client)
    return {}


def defect(sick: Sick) -> Labels:
    sick.spool_less.create_stream("lost-spool", full_policy="spill", max_buffered_batches=1)

    def append(number: int) -> None:
        with suppress(bowstring.BowstringError), sick.spool_less.producer("lost-spool", append_timeout=0.2) as producer:
            producer.append(numbered(number))

    sick.again_and_again(append)
    return {"code": "storage"}


def fenced(sick: Sick) -> Labels:
    sick.disk.create_stream("jobs")
    sick.disk.open_epoch("jobs", "job", "first", 0)
    sick.disk.open_epoch("jobs", "job", "second", 0)

    def zombie(number: int) -> None:
        with suppress(bowstring.Fenced):
            sick.disk.open_epoch("jobs", "job", "first", number + 1)

    sick.again_and_again(zombie)
    return {"code": "fenced"}


def refusals(sick: Sick) -> Labels:
    sick.memory.create_stream("rejecting", full_policy="reject", max_buffered_batches=1)

    def append(number: int) -> None:
        with suppress(bowstring.BufferFull), sick.memory.producer("rejecting") as producer:
            producer.append(numbered(number))

    sick.again_and_again(append)
    return {"code": "buffer_full"}


def client_errors(sick: Sick) -> Labels:
    def ask(_: int) -> None:
        with suppress(bowstring.StreamNotFound):
            sick.memory.describe_stream("nowhere")

    sick.again_and_again(ask)
    return {"code": "stream_not_found"}


def log_stalled(sick: Sick) -> Labels:
    sick.full.create_stream("stalled")
    producer = sick.full.producer("stalled")
    producer.append(numbered(0))
    sick.held.append(producer)
    return {"stream": "stalled"}


def disk_nearly_full(sick: Sick) -> Labels:
    sick.disk.create_stream("large", max_disk_bytes=1 << 20)
    with sick.disk.producer("large") as producer:
        for _ in range(9):
            producer.append(filler(100 << 10))
    return {"stream": "large"}


def spool_nearly_full(sick: Sick) -> Labels:
    sick.memory.create_stream("spilling", full_policy="spill", max_buffered_bytes=250 << 10, max_spool_bytes=1 << 20)
    with sick.memory.producer("spilling") as producer:
        for _ in range(11):
            producer.append(filler(100 << 10))
    return {"stream": "spilling"}


def producers_blocked(sick: Sick) -> Labels:
    sick.memory.create_stream("blocked", max_buffered_batches=1)
    producer = sick.memory.producer("blocked")
    for number in range(3):
        producer.append(numbered(number))
    sick.held.append(producer)
    return {"stream": "blocked"}


def producers_slowed(sick: Sick) -> Labels:
    sick.memory.create_stream("slowed", max_buffered_batches=1)
    sick.memory.subscribe("slowed", "slow")
    producer = sick.memory.producer("slowed")
    iterator = sick.memory.iterator("slowed", subscription="slow", timeout=5.0)

    def append(number: int) -> None:
        with suppress(bowstring.BowstringError):
            producer.append(numbered(number), timeout=1.0)

    def read(_: int) -> None:
        with suppress(bowstring.BowstringError, StopIteration):
            next(iterator)

    sick.again_and_again(append, 0.001)
    sick.again_and_again(read, 0.1)
    sick.held += [producer, iterator]
    return {"stream": "slowed"}


def epochs_aborted(sick: Sick) -> Labels:
    sick.memory.create_stream("aborted")

    def abort(number: int) -> None:
        sick.memory.open_epoch("aborted", "job", "run", number)
        sick.memory.abort_epoch("aborted", "job", "run", number)

    sick.again_and_again(abort)
    return {"stream": "aborted"}


def delivery_slow(sick: Sick) -> Labels:
    with sick.memory.producer("late") as producer:
        producer.append(numbered(0))
    time.sleep(1)

    def read(_: int) -> None:
        list(sick.memory.iterator("late", subscription=None, follow=False, timeout=10))

    sick.again_and_again(read)
    return {"stream": "late"}


def unread(sick: Sick, stream: str) -> Labels:
    sick.disk.create_stream(stream)
    sick.disk.subscribe(stream, "gone")
    with sick.disk.producer(stream) as producer:
        producer.append(numbered(0))
    return {"stream": stream}


def lag_too_old(sick: Sick) -> Labels:
    return unread(sick, "old") | {"subscription": "gone"}


def nobody_reads(sick: Sick) -> Labels:
    return unread(sick, "unread")


def subscription_stands(sick: Sick) -> Labels:
    sick.disk.create_stream("standing")
    sick.disk.subscribe("standing", "hangs")
    with sick.disk.producer("standing") as producer:
        producer.append(numbered(0))
    iterator = sick.disk.iterator("standing", subscription="hangs", timeout=30)
    next(iterator)
    sick.held.append(iterator)
    return {"stream": "standing", "subscription": "hangs"}


def lag_grows(sick: Sick) -> Labels:
    sick.memory.create_stream("growing", max_buffered_batches=1_000_000)
    sick.memory.subscribe("growing", "slow")
    producer = sick.memory.producer("growing")
    sick.again_and_again(lambda number: producer.append(numbered(0, 10 + number * number)))
    sick.held.append(producer)
    return {"stream": "growing", "subscription": "slow"}


def shared(sick: Sick, stream: str, sharing: bowstring.Sharing) -> bowstring.StreamingIterator:
    sick.memory.create_stream(stream, max_buffered_batches=1000)
    sick.memory.subscribe(stream, "team", mode="shared", sharing=sharing)
    iterator = sick.memory.iterator(stream, subscription="team", timeout=30)
    sick.held.append(iterator)
    return iterator


def returned(sick: Sick) -> Labels:
    iterator = shared(sick, "refused", bowstring.Sharing())
    with sick.memory.producer("refused") as producer:
        producer.append(numbered(0))
    next(iter(iterator.handles())).nack(delay=600.0, reason="not now")
    iterator.flush()
    return {"stream": "refused", "subscription": "team"}


def failing(sick: Sick, stream: str) -> None:
    """Every batch of the stream fails once, which is too often."""
    handles = iter(shared(sick, stream, bowstring.Sharing(max_deliveries=1)).handles())
    producer = sick.memory.producer(stream)
    sick.held.append(producer)

    def fail(number: int) -> None:
        producer.append(numbered(number))
        next(handles).nack(reason="bad")

    sick.again_and_again(fail)


def dead_letters(sick: Sick) -> Labels:
    failing(sick, "dying")
    return {"stream": "dying"}


def dead_letters_stuck(sick: Sick) -> Labels:
    sick.memory.create_stream("stuck.dead-letters", schema=pa.schema({"other": pa.int64()}))
    sick.memory.complete_stream("stuck.dead-letters")
    failing(sick, "stuck")
    return {"stream": "stuck", "subscription": "team"}


def evicted(sick: Sick) -> Labels:
    sick.memory.create_stream("evicting", max_buffered_batches=2)
    sick.memory.subscribe("evicting", "slow", on_overflow="evict")
    with sick.memory.producer("evicting") as producer:
        for number in range(3):
            producer.append(numbered(number))
    return {"stream": "evicting", "subscription": "slow"}


def skipped(sick: Sick) -> Labels:
    sick.memory.create_stream("skipping", max_buffered_batches=2)
    sick.memory.subscribe("skipping", "slow", on_overflow="skip")
    producer = sick.memory.producer("skipping")
    sick.held.append(producer)
    sick.again_and_again(lambda number: producer.append(numbered(number)))
    return {"stream": "skipping", "subscription": "slow"}


#: What makes each alert fire; the coordinator's own end and its restarts are the test's.
STATES: dict[str, Callable[[Sick], Labels]] = {
    "BowstringConnectionsNearCap": connections,
    "BowstringDefect": defect,
    "BowstringFenced": fenced,
    "BowstringRefusals": refusals,
    "BowstringClientErrors": client_errors,
    "BowstringLogStalled": log_stalled,
    "BowstringDiskNearlyFull": disk_nearly_full,
    "BowstringSpoolNearlyFull": spool_nearly_full,
    "BowstringProducersBlocked": producers_blocked,
    "BowstringProducersSlowed": producers_slowed,
    "BowstringEpochsAborted": epochs_aborted,
    "BowstringDeliverySlow": delivery_slow,
    "BowstringLagTooOld": lag_too_old,
    "BowstringLagGrows": lag_grows,
    "BowstringSubscriptionStands": subscription_stands,
    "BowstringNobodyReads": nobody_reads,
    "BowstringReturned": returned,
    "BowstringDeadLetters": dead_letters,
    "BowstringDeadLettersStuck": dead_letters_stuck,
    "BowstringEvicted": evicted,
    "BowstringSkipped": skipped,
}

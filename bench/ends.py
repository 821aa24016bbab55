"""An end's side of a benchmark: it says it is ready, waits for a line, works, and prints a report as one line of JSON.

The protocol, the clock (the machine's monotonic one) and the stamps are those of `bowstring bench`'s own ends.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from bench.cases import Case, stamped

READY = "ready"


def wait_for_go() -> Meter:
    """Connected: from here on the time runs, once the benchmark says so."""
    print(READY, flush=True)
    sys.stdin.readline()
    return Meter()


class Meter:
    """Runs from its creation: the word to go."""

    def __init__(self) -> None:
        self.begun_ns = time.monotonic_ns()
        self._cpu_ns = time.process_time_ns()
        self.batches = 0
        self.bytes = 0
        self._latency: list[int] = []

    def count(self, batch: pa.RecordBatch) -> None:
        """A batch has been appended or has come."""
        self.batches += 1
        self.bytes += batch.nbytes

    def arrived(self, batch: pa.RecordBatch) -> None:
        """A batch with a stamp has come."""
        self._latency.append(time.monotonic_ns() - batch.column(0)[0].as_py())

    def rows_arrived(self, batch: pa.RecordBatch) -> None:
        """A batch has come whose rows say each when it was made."""
        now_ns = time.monotonic_ns()
        self.count(batch)
        self._latency += [now_ns - made_ns for made_ns in batch.column("made_at").to_pylist()]

    def say_report(self) -> None:
        """The end's last word."""
        print(json.dumps(self.report()), flush=True)

    def report(self) -> dict[str, Any]:
        """What has been counted until now."""
        cpu_ns = time.process_time_ns() - self._cpu_ns
        return {
            "begun_ns": self.begun_ns,
            "ended_ns": time.monotonic_ns(),
            "cpu_seconds": cpu_ns / 1e9,
            "batches": self.batches,
            "bytes": self.bytes,
            "latency": [[latency, 1] for latency in self._latency],
        }


def appends(case: Case, batch: pa.RecordBatch, meter: Meter) -> Iterator[pa.RecordBatch]:
    """The batches of a case, counted; with a rate each when it is due, and stamped.

    A batch that is late because an append had to wait is stamped with the time at which it was due; one that is late
    because this end overslept, with the time at which it woke.
    """
    woke_ns = meter.begun_ns
    # It counts values and offsets, which takes time of its own.
    nbytes = batch.nbytes
    for number in range(case.batches):
        meter.batches += 1
        meter.bytes += nbytes
        if case.rate is None:
            yield batch
            continue
        due_ns = meter.begun_ns + int(number / case.rate * 1e9)
        now_ns = time.monotonic_ns()
        if now_ns < due_ns:
            time.sleep((due_ns - now_ns) / 1e9)
            woke_ns = time.monotonic_ns()
        yield stamped(batch, max(due_ns, woke_ns))


def take(case: Case, batch: pa.RecordBatch, meter: Meter, nbytes: int) -> bool:
    """Counts a batch that has come; whether it was the last."""
    meter.batches += 1
    meter.bytes += nbytes
    if case.rate is not None:
        meter.arrived(batch)
    return meter.batches == case.batches

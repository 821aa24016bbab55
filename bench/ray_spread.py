"""One stream over 1, 2 and 4 coordinators that are Ray actors, each with a producer and a consumer.

Each of them is a process: three per coordinator. All are on this machine, so what this shows is what spreading costs,
and that coordinators do not hold up each other; not what more machines would give.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.cases import Case, make_batch
from bench.children import cpu_seconds, python
from bench.ends import Meter, appends, take
from bench.figures import Figures, figures
from bench.parts import KIB, MIB
from bench.report import Floor, Series, counted

STREAM = "spread"
COORDINATORS = (1, 2, 4)
#: Whether data goes by shared memory, as on one host, or by TCP, as between hosts.
WAYS = {"TCP": False, "shared memory": True}
STORE_BYTES = 100 << 20


@dataclass(frozen=True)
class Amount:
    """Sizes of batches by name, and how many of each, over all coordinators."""

    sizes: Sequence[tuple[str, int, int]]


MUCH = Amount([("64 KiB", 64 * KIB, 16_384), ("4 MiB", 4 * MIB, 512)])
SMOKE = Amount([("64 KiB", 64 * KIB, 64), ("4 MiB", 4 * MIB, 8)])


def measure_ray_spread(rounds: int, amount: Amount | None = None) -> tuple[list[Series], list[Floor]]:
    """Every size and way with every number of coordinators in turn, each in a Ray of its own."""
    amount = amount or (SMOKE if rounds == 1 else MUCH)
    names = [counted(count, "coordinator") for count in COORDINATORS]
    measured = []
    for size, batch_bytes, batches in amount.sizes:
        for way in WAYS:
            name = f"{size} batches over Ray's coordinators, {way}"
            series = Series(name, "MB/s", {}, names[:1])
            measured.append((Case(name, "relay", batch_bytes, batches), way, series))
    for _ in range(rounds):
        works = [(replace(case, partitions=count).json(), way) for case, way, _ in measured for count in COORDINATORS]
        shown = iter(spread(works))
        for _, _, series in measured:
            for name in names:
                one = next(shown)
                series.values.setdefault(name, []).append(one.mb_per_s)
                series.figures.setdefault(name, []).append(one)
    return [series for _, _, series in measured], []


def spread(works: Sequence[tuple[str, str]]) -> list[Figures]:
    """A round in a Ray of its own: each case with as many coordinators as it has partitions."""
    path = os.pathsep.join([str(Path.cwd()), *sys.path])
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": path}
    command = python("bench.ray_spread", json.dumps(works))
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return [figures(**json.loads(line)) for line in lines[-len(works) :]]


class End:
    """A producer and a consumer of one partition, of which a process is one."""

    def __init__(self, client: Any, case: Case, partition: int) -> None:
        self.case = replace(case, batches=case.batches // case.partitions)
        self.partition = partition
        self.batch = make_batch(case)
        self.client = client

    def connect(self, what: str) -> None:
        """Connects before the time runs; a batch that is sent loads what that needs."""
        if what == "append":
            self.producer = self.client.producer(STREAM, partition=self.partition)
            self.producer.append(self.batch)
            self.producer.flush()
        else:
            self.iterator = self.client.iterator(STREAM, subscription="bench", partitions=[self.partition])
            next(self.iterator)

    def append(self) -> dict[str, Any]:
        """Until all is stored."""
        meter = Meter()
        for one in appends(self.case, self.batch, meter):
            self.producer.append(one)
        self.producer.flush()
        return meter.report()

    def read(self) -> dict[str, Any]:
        """Until all has come."""
        nbytes = self.batch.nbytes
        meter = Meter()
        for batch in self.iterator:
            if take(self.case, batch, meter, nbytes):
                break
        return meter.report()


def main(works: Sequence[tuple[str, str]]) -> None:
    """A round; prints what `figures` takes, a line for each."""
    import ray

    ray.init(
        num_cpus=3 * max(COORDINATORS),
        include_dashboard=False,
        object_store_memory=STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    for case, way in works:
        print(json.dumps(carried(Case.of(case), way)), flush=True)
    ray.shutdown()


def carried(case: Case, way: str) -> dict[str, Any]:
    """One case."""
    import ray

    from bowstring.ray import start_coordinators

    count = case.partitions
    with start_coordinators(count, host="127.0.0.1", timeout=300) as running:
        client = running.client(local_socket=WAYS[way], shared_memory=WAYS[way])
        client.create_stream(STREAM, partitions=count)
        end = ray.remote(End)
        appending = [end.remote(client, case, partition) for partition in range(count)]
        reading = [end.remote(client, case, partition) for partition in range(count)]
        ray.get([one.connect.remote("append") for one in appending])
        ray.get([one.connect.remote("read") for one in reading])
        pids = [one.pid for one in running.status() if one.pid is not None]
        before = sum(map(cpu_seconds, pids))
        reports = ray.get([*(one.read.remote() for one in reading), *(one.append.remote() for one in appending)])
        used = sum(map(cpu_seconds, pids)) - before
    return {"appending": summed(reports[count:]), "reading": reports[:count], "server_cpu_seconds": used}


def summed(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Those of several producers as one's."""
    return {
        "begun_ns": min(report["begun_ns"] for report in reports),
        "ended_ns": max(report["ended_ns"] for report in reports),
        "latency": [],
        **{name: sum(report[name] for report in reports) for name in ("cpu_seconds", "batches", "bytes")},
    }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

"""The peer on Ray: a bounded buffer in an actor, as DRLS's coordinator is one. Usage: ray_actor CASE.

Producer and consumer are actors too, so that each is a process; up to so many calls are under way at each end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench.cases import Case, make_batch
from bench.children import python
from bench.ends import Meter, appends, take
from bench.figures import Figures, figures

#: As many as bowstring holds by default.
BUFFERED_BATCHES_MAX = 64
CALLS_MAX = 16
#: It takes some hundred batches per second: as many as the others carry would take minutes.
BATCHES_MAX = 1_000
STORE_BYTES = 2 << 30


def ray_actor(case: Case) -> Figures:
    """A round in a Ray of its own."""
    case = replace(case, batches=min(case.batches, BATCHES_MAX))
    # Its workers import the batches from here too.
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(Path.cwd())}
    command = python("bench.ray_actor", case.json())
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment, text=True)
    return figures(**json.loads(done.stdout.splitlines()[-1]))


class Coordinator:
    """Holds batches until somebody takes them; a full buffer makes the producer wait."""

    def __init__(self) -> None:
        self.buffer: asyncio.Queue[pa.RecordBatch] = asyncio.Queue(BUFFERED_BATCHES_MAX)

    async def append(self, batch: pa.RecordBatch) -> None:
        await self.buffer.put(batch)

    async def read(self) -> pa.RecordBatch:
        return await self.buffer.get()

    async def cpu_seconds(self) -> float:
        return time.process_time()


class End:
    """Producer or consumer."""

    def ready(self) -> None:
        """Answers once the process is there."""

    def append(self, coordinator: Any, case: Case) -> dict[str, Any]:
        import ray

        batch = make_batch(case)
        under_way: deque[Any] = deque()
        meter = Meter()
        for one in appends(case, batch, meter):
            under_way.append(coordinator.append.remote(one))
            if len(under_way) == CALLS_MAX:
                ray.get(under_way.popleft())
        ray.get(list(under_way))
        return meter.report()

    def read(self, coordinator: Any, case: Case) -> dict[str, Any]:
        import ray

        nbytes = make_batch(case).nbytes
        meter = Meter()
        under_way = deque(coordinator.read.remote() for _ in range(min(CALLS_MAX, case.batches)))
        left = case.batches - len(under_way)
        while under_way:
            batch = ray.get(under_way.popleft())
            if left > 0:
                under_way.append(coordinator.read.remote())
                left -= 1
            take(case, batch, meter, nbytes)
        return meter.report()


def main(case: Case) -> None:
    """One round; prints what `figures` takes."""
    import ray

    ray.init(
        num_cpus=3,
        include_dashboard=False,
        object_store_memory=STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    coordinator = ray.remote(Coordinator).options(max_concurrency=4 * CALLS_MAX).remote()
    end = ray.remote(End)
    appending, reading = end.remote(), end.remote()
    ray.get([appending.ready.remote(), reading.ready.remote()])
    # The first calls of a worker load what it needs.
    warm = replace(case, batches=2 * CALLS_MAX, rate=None)
    ray.get([reading.read.remote(coordinator, warm), appending.append.remote(coordinator, warm)])
    before = ray.get(coordinator.cpu_seconds.remote())
    reports = ray.get([reading.read.remote(coordinator, case), appending.append.remote(coordinator, case)])
    used = ray.get(coordinator.cpu_seconds.remote()) - before
    ray.shutdown()
    print(json.dumps({"appending": reports[1], "reading": [reports[0]], "server_cpu_seconds": used}), flush=True)


if __name__ == "__main__":
    main(Case.of(sys.argv[1]))

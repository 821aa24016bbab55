"""How long a coordinator takes to start again after kill -9."""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.request import urlopen

import bowstring
from bench.cases import Case
from bench.children import Child, carry, children
from bench.contestants import listening, rust_end, serve
from bench.data_folder import data_folder, forget_cached
from bench.report import Series

STREAM = "recovery-0"
AGAIN = "start after kill -9"
COLD = "start, nothing cached"
REBUILD = "start, index files removed"


def measure_recovery(rounds: int, *, total_bytes: int, batch_bytes: int) -> Series:
    """Seconds per GB of log until /healthz says ok. The log is written once, and started with again and again."""
    batches = total_bytes // batch_bytes
    series = Series(
        f"recovery of {total_bytes / 1e9:.2g} GB in batches of {batch_bytes >> 10} KiB",
        "s/GB",
        {AGAIN: [], COLD: [], REBUILD: []},
        more_is_better=False,
    )
    with data_folder() as folder:
        with children(serve(data_dir=folder)) as (server,):
            _write(server, batch_bytes, batches)
            server.process.kill()
        gigabytes = sum(path.stat().st_size for path in folder.rglob("*.arrows")) / 1e9
        for _ in range(rounds):
            series.values[AGAIN].append(_start(folder, batches) / gigabytes)
            forget_cached(folder)
            series.values[COLD].append(_start(folder, batches) / gigabytes)
            for index in folder.rglob("*.index"):
                index.unlink()
            series.values[REBUILD].append(_start(folder, batches) / gigabytes)
    return series


def _write(server: Child, batch_bytes: int, batches: int) -> None:
    case = Case("recovery", "put", batch_bytes, batches)
    carry(server, rust_end("append", listening(server), STREAM.removesuffix("-0"), case))


def _start(folder: Path, batches: int) -> float:
    begun = time.perf_counter()
    with children(serve(data_dir=folder)) as (server,):
        said = json.loads(server.line())
        with urlopen(f"http://{said['http']}/healthz") as answer:
            health = json.load(answer)
        seconds = time.perf_counter() - begun
        assert (health["status"], health["storage"]) == ("ok", "disk"), health
        partitions = bowstring.connect(f"grpc://{said['listen']}").describe_stream(STREAM)["partitions"]
        assert [one["end"] for one in partitions] == [batches], partitions
        server.process.kill()
    return seconds

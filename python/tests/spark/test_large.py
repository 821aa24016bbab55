"""A micro-batch far larger than the buffer: it spools, and memory stays within the limits."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import bowstring
from bowstring.streaming import from_spark_streaming

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROWS = 20_000_000
#: What the coordinator's process may take: 64 batches of 10,000 rows of 16 bytes are 10 MB, the rest is its own.
PEAK_BYTES = 512 << 20


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))


@pytest.mark.timeout(180)
def test_twenty_million_rows_in_one_micro_batch_pass_with_the_default_limits(spark: SparkSession) -> None:
    command = [sys.executable, "-m", "bowstring", "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())["listen"]
            client = bowstring.connect(f"grpc://{address}")
            frame = (
                spark.readStream.format("rate-micro-batch")
                .option("rowsPerBatch", ROWS)
                .option("numPartitions", 2)
                .load()
            )
            iterator, query = from_spark_streaming(frame, "s", coordinator=client, trigger={"availableNow": True})
            seen = {"buffered": 0, "spooled": 0}
            done = threading.Event()

            def look() -> None:
                while not done.wait(0.1):
                    found = client.describe_stream("s")
                    seen["buffered"] = max(seen["buffered"], found["buffered_batches"])
                    seen["spooled"] = max(seen["spooled"], found["spooled_batches"])

            watcher = threading.Thread(target=look, daemon=True)
            watcher.start()
            rows = sum(batch.num_rows for batch in iterator)
            done.set()
            watcher.join()
            assert query.exception() is None
            assert rows % ROWS == 0
            assert rows >= ROWS
            assert 0 < seen["buffered"] <= 64
            assert seen["spooled"] > 1000
            assert peak_bytes(server.pid) < PEAK_BYTES
        finally:
            server.terminate()

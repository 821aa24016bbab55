"""Shared memory: what Python sees of it, and of what happens to it."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

import bowstring

from . import support
from .support import Served, get, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sealed memory files are Linux's")

LENT, LOOKED_AT = "bowstring_shared_memory_lent_bytes", "bowstring_shared_memory_looked_at_bytes"
LINKS = "bowstring_shared_memory_links"
BYTES = 800_000


@pytest.fixture
def coordinator(serve: Callable[..., Served]) -> Served:
    """One in a process of its own: what is in this one needs no shared memory."""
    return serve()


def metric(coordinator: Served, name: str) -> float:
    return support.metric(get(f"{coordinator.http_url}/metrics"), name)


def batch(number: int) -> pa.RecordBatch:
    return pa.record_batch({"n": np.full(BYTES // 8, number)})


def lend(coordinator: Served, producer: bowstring.Producer) -> None:
    """Appends batch 0, and waits until what follows goes by shared memory."""
    producer.append(batch(0))
    producer.flush()
    wait_until(lambda: metric(coordinator, LENT) > 0)


def test_a_batch_is_looked_at_where_it_is_and_let_go_with_its_last_reference(
    coordinator: Served,
) -> None:
    client = bowstring.connect(coordinator.url)
    with client.producer("s") as producer:
        lend(coordinator, producer)
        for number in range(1, 20):
            producer.append(batch(number))
        producer.complete()
    with client.iterator("s") as batches:
        held = list(batches)
    # The producer may hear after batch 1 that its arena can be used.
    assert metric(coordinator, LOOKED_AT) in (18 * BYTES, 19 * BYTES)
    column = held[5].column("n")
    values = column.to_numpy(zero_copy_only=True)
    assert column.buffers()[1].address % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1
    del held, column
    gc.collect()
    wait_until(lambda: metric(coordinator, LOOKED_AT) == BYTES)
    assert (values == 5).all()
    del values
    gc.collect()
    wait_until(lambda: metric(coordinator, LOOKED_AT) == 0)


@pytest.mark.parametrize("off", ["client", "iterator", "coordinator"])
def test_it_can_be_turned_off(serve: Callable[..., Served], off: str) -> None:
    coordinator = serve("--shared-memory", str(off != "coordinator").lower())
    client = bowstring.connect(coordinator.url, shared_memory=off != "client")
    with pickle.loads(pickle.dumps(client)).producer("s") as producer:
        producer.append(batch(0))
        producer.flush()
        if off == "iterator":
            wait_until(lambda: metric(coordinator, LENT) > 0)
        for number in range(1, 4):
            producer.append(batch(number))
        producer.complete()
    with client.iterator("s", **({"shared_memory": False} if off == "iterator" else {})) as batches:
        held = list(batches)
    assert len(held) == 4
    assert metric(coordinator, LOOKED_AT) == 0
    assert (metric(coordinator, LENT) > 0) == (off == "iterator")


HOLDER = """
import os, sys, time, bowstring
batches = bowstring.StreamingIterator(sys.argv[1], "s")
held = [next(batches) for _ in range(20)]
child = os.fork()
if child == 0:
    # Its copies of arrays and sockets are not what is held.
    del held
    time.sleep(600)
print(child, flush=True)
time.sleep(600)
"""


def test_a_consumer_that_is_killed_lets_go_of_all_that_it_held_though_a_child_of_it_lives(coordinator: Served) -> None:
    client = bowstring.connect(coordinator.url)
    with client.producer("s") as producer:
        lend(coordinator, producer)
        for number in range(1, 30):
            producer.append(batch(number))
        producer.flush()
        with subprocess.Popen([sys.executable, "-c", HOLDER, coordinator.url], stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            child = int(holder.stdout.readline())
            assert metric(coordinator, LOOKED_AT) >= 19 * BYTES
            os.kill(holder.pid, signal.SIGKILL)
        try:
            wait_until(lambda: metric(coordinator, LOOKED_AT) == 0)
        finally:
            os.kill(child, signal.SIGKILL)
        producer.complete()
    with client.iterator("s", start="earliest") as batches:
        # What the dead one had not acked comes again.
        assert [one.column("n")[0].as_py() for one in batches][-10:] == list(range(20, 30))


def test_a_producer_that_is_killed_leaves_its_batches_whole(coordinator: Served) -> None:
    code = """
import os, signal, sys, time, bowstring, numpy as np, pyarrow as pa
producer = bowstring.connect(sys.argv[1]).producer("s")
for number in range(30):
    producer.append(pa.record_batch({"n": np.full(100_000, number)}))
    producer.flush()
    if number == 0:
        time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, coordinator.url], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: metric(coordinator, LINKS) == 0)
    client = bowstring.connect(coordinator.url)
    client.complete_stream("s")
    with client.iterator("s") as batches:
        held = list(batches)
    assert metric(coordinator, LOOKED_AT) >= 20 * BYTES
    assert all(one.equals(batch(number)) for number, one in enumerate(held))
    assert len(held) == 30

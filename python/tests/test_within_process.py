"""Clients of a coordinator in their own process: no socket."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

import bowstring

from .support import ids, numbered


def connections(coordinator: bowstring.StreamCoordinator) -> int:
    count: int = coordinator.client().get_stats()["open_connections"]
    return count


def address(batch: pa.RecordBatch) -> int:
    where: int = batch.column("n").buffers()[1].address
    return where


def test_nothing_goes_by_a_socket_and_readers_share_the_memory(coordinator: bowstring.StreamCoordinator) -> None:
    client = bowstring.connect(coordinator.url)
    values = np.arange(100_000)
    with client.producer("s") as producer:
        producer.append(pa.record_batch({"n": values}))
        producer.flush()
        values[:] = 0
        with client.iterator("s", subscription="a") as one, client.iterator("s", subscription="b") as other:
            first, second = next(one), next(other)
            assert connections(coordinator) == 0
    assert first.column("n").to_numpy().tolist() == list(range(100_000)), "what is appended may be written again"
    assert address(first) == address(second)
    assert address(first) % 64 == 0


def test_dictionaries_are_no_more_the_callers_than_batches(coordinator: bowstring.StreamCoordinator) -> None:
    client = bowstring.connect(coordinator.url)
    words = np.arange(100_000)
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2], pa.int32()), pa.array(words))
    with client.producer("s") as producer:
        producer.append(pa.record_batch({"n": column}))
        producer.flush()
        words[:] = 7
        with client.iterator("s") as iterator:
            assert next(iterator).column("n").to_pylist() == [0, 1, 2]


def test_who_wants_a_socket_gets_one(coordinator: bowstring.StreamCoordinator) -> None:
    client = bowstring.connect(coordinator.url, local_socket=False)
    with client.producer("s") as producer:
        producer.append(numbered(0))
        producer.flush()
        assert connections(coordinator) == 2


def test_another_process_gets_there_by_the_same_url(coordinator: bowstring.StreamCoordinator) -> None:
    with coordinator.client().producer("s") as producer:
        producer.append(numbered(0))
        producer.complete()
    iterator = coordinator.client().iterator("s")
    code = "import pickle, sys; print(sum(batch.num_rows for batch in pickle.load(sys.stdin.buffer)))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(iterator), stdout=subprocess.PIPE, check=True
    )
    assert done.stdout == b"10\n"


def test_a_forked_child_gets_there_by_a_socket(coordinator: bowstring.StreamCoordinator) -> None:
    client = coordinator.client()
    with client.producer("s") as producer:
        producer.append(numbered(0))
        producer.flush()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with client.iterator("s", subscription="child") as iterator:
                os.write(write, str(sum(ids([next(iterator)]))).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        assert answer.read() == "45"
    os.waitpid(child, 0)


def test_a_coordinator_that_has_stopped_is_gone_for_its_clients() -> None:
    coordinator = bowstring.StreamCoordinator()
    client = bowstring.connect(coordinator.url, retry_deadline=0.3)
    with client.producer("s") as producer:
        producer.append(numbered(0))
    iterator = client.iterator("s")
    assert ids([next(iterator)]) == list(range(10))
    coordinator.stop()
    with pytest.raises(bowstring.Unavailable):
        next(iterator)
    with pytest.raises(bowstring.Unavailable):
        client.describe_stream("s")

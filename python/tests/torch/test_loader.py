"""Batches by a DataLoader's workers, forked or spawned, are those that come without."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
import torch
from in_workers import with_process
from torch.utils.data import DataLoader

import bowstring
from bowstring.torch import Batch, StreamDataset

from .support import fill, ids_of

SIZES = [9, 30, 1, 25, 40, 8, 3, 60, 21]


def dataset(client: bowstring.Client, **options: Any) -> StreamDataset:
    given = {"timeout": 60.0, **options}
    return StreamDataset(client.url, "rows", batch_rows=8, round_rows=60, **given)


def filled(client: bowstring.Client) -> list[list[int]]:
    """The batches of one rank, without a loader."""
    fill(client, SIZES)
    client.complete_stream("rows")
    found, one = [], dataset(client)
    while batches := ids_of(one):
        found += batches
    return found


@pytest.mark.parametrize(("workers", "context"), [(0, None), (1, "fork"), (3, "fork"), (2, "spawn"), (2, "forkserver")])
def test_workers_give_the_same_batches_round_by_round(
    client: bowstring.Client, workers: int, context: str | None
) -> None:
    expected = filled(client)
    options = {"multiprocessing_context": context} if workers else {}
    one = dataset(client, transform=with_process)
    seen, processes = [], set()
    with one.loader(workers, **options) as loader:
        while batches := list(loader):
            assert [batch.is_last for batch in batches] == [False] * (len(batches) - 1) + [True]
            assert len({batch.round for batch in batches}) == 1
            assert one.state_dict() == batches[-1].state
            processes |= {batch["process"] for batch in batches}
            seen += ids_of(batches)
    assert seen == expected
    assert len(processes) == max(1, workers)
    assert (os.getpid() in processes) == (workers == 0)


def test_the_state_is_behind_what_was_given_and_not_behind_what_workers_read_ahead(client: bowstring.Client) -> None:
    expected = filled(client)
    one = dataset(client)
    with one.loader(2, prefetch_factor=4) as loader:
        assert ids_of(batch for batch, _ in zip(loader, range(3), strict=False)) == expected[:3]
        state = one.state_dict()
        assert ids_of(loader) == expected[4:7], "the round that was left goes on; one more batch was asked for"
        one.load_state_dict(state)
        found = []
        while batches := ids_of(loader):
            found += batches
    assert found == expected[4:], "and a loaded state moves the workers"


def test_a_loader_ends_its_workers_though_they_wait_for_a_round(client: bowstring.Client) -> None:
    fill(client, [60])
    with dataset(client).loader(2) as loader:
        assert len(list(loader)) == 7
        workers = list(loader._running._workers)  # type: ignore[union-attr]
        assert all(worker.is_alive() for worker in workers)
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0, "by themselves, and not by a signal"


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_workers_wait_for_rows_however_they_were_started(client: bowstring.Client, context: str) -> None:
    fill(client, [60])
    with dataset(client).loader(2, multiprocessing_context=context) as loader:
        assert len(list(loader)) == 7
        feeding = threading.Timer(1, fill, (client, [60]), {"first": 60})
        feeding.start()
        assert len(list(loader)) == 8, "with what the first round left"
        feeding.join()


TRAINING = """
import sys
from bowstring.torch import StreamDataset

if __name__ == "__main__":
    url, context = sys.argv[1:]
    loader = StreamDataset(url, "rows", batch_rows=8, round_rows=60).loader(2, multiprocessing_context=context)
    print(len(list(loader)), flush=True)
    list(loader)
"""


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_workers_end_with_the_training_that_is_killed(client: bowstring.Client, context: str) -> None:
    fill(client, [60])
    arguments = [sys.executable, "-c", TRAINING, client.url, context]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as training:
        try:
            assert training.stdout is not None
            assert training.stdout.readline() == "7\n"
        finally:
            training.kill()
        # Every process that it began has this pipe, and it ends with the last of them.
        assert training.communicate(timeout=60)[0] == ""


def test_the_timeout_is_of_the_training_and_not_of_workers_that_read_ahead(client: bowstring.Client) -> None:
    fill(client, [60])
    with dataset(client, timeout=0.3).loader(1, prefetch_factor=8) as loader:
        assert len(list(loader)) == 7
        busy_until = time.monotonic() + 1
        while time.monotonic() < busy_until:
            time.sleep(0.1)
        fill(client, [60], first=60)
        until = time.monotonic() + 30
        while client.describe_stream("rows.rounds.training")["partitions"][0]["end"] < 2:
            assert time.monotonic() < until, "the worker does not wait any more"
            time.sleep(0.02)
        assert len(list(loader)) == 8
        with pytest.raises(bowstring.Timeout):
            list(loader)


def test_an_error_in_a_worker_reaches_the_training(client: bowstring.Client) -> None:
    fill(client, [60])
    for workers in (0, 1):
        loader = dataset(client, timeout=0.3).loader(workers)
        assert len(list(loader)) == 7
        with pytest.raises(bowstring.Timeout, match="60 rows") as caught:
            list(loader)
        assert (caught.value.code, caught.value.retryable) == ("timeout", True)


def test_a_data_loader_without_workers_takes_the_dataset_as_it_is(client: bowstring.Client) -> None:
    expected = filled(client)
    one = dataset(client)
    batches = list(DataLoader(one, batch_size=None))
    assert ids_of(batches) == expected[:7]
    assert isinstance(batches[0], Batch)
    assert one.state_dict() == batches[-1].state
    with pytest.raises(bowstring.InvalidArgument, match="batch_size"):
        one.loader(1, batch_size=4)


def test_a_batch_survives_what_a_data_loader_does_to_it(client: bowstring.Client) -> None:
    filled(client)
    (batch,) = (one for one, _ in zip(dataset(client).loader(1), range(1), strict=False))
    assert isinstance(batch, Batch)
    assert batch["id"].is_shared(), "by shared memory"
    batch["id"] += 1
    assert batch.round == 0
    assert batch.state["next_round"] == 1
    assert isinstance(batch["x"], torch.Tensor)

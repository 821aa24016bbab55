"""What a training can do after an error: go on where it was, and not on a stream that is another one."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import bowstring
from bowstring.torch import Batch, StreamDataset

from .support import fill, ids_of


def dataset(client: bowstring.Client, rank: int = 0, world_size: int = 1, **options: object) -> StreamDataset:
    given = {"batch_rows": 10, "round_rows": 60, "timeout": 30.0, **options}
    return StreamDataset(client.url, "rows", rank=rank, world_size=world_size, **given)  # type: ignore[arg-type]


def by(one: StreamDataset, workers: int | None) -> Iterable[Batch]:
    return one if workers is None else one.loader(workers)


@pytest.mark.parametrize("workers", [None, 0, 1])
def test_after_a_timeout_the_next_for_waits_again(client: bowstring.Client, workers: int | None) -> None:
    fill(client, [60])
    batches = by(dataset(client, timeout=0.3), workers)
    assert len(ids_of(batches)) == 6
    for _ in range(2):
        with pytest.raises(bowstring.Timeout):
            list(batches)
    fill(client, [60], first=60)
    assert [*chain.from_iterable(ids_of(batches))] == list(range(60, 120))


class FailsOnce:
    """A transform that fails at a batch, the first time that any process comes to it."""

    def __init__(self, folder: Path) -> None:
        self._failed = folder / "failed"

    def __call__(self, values: dict[str, Any]) -> dict[str, Any]:
        if 20 in values["id"].tolist() and not self._failed.exists():
            self._failed.touch()
            raise ValueError("an odd picture")
        return values


@pytest.mark.parametrize("workers", [None, 0, 1])
def test_a_batch_whose_transform_failed_comes_again(
    client: bowstring.Client, workers: int | None, tmp_path: Path
) -> None:
    fill(client, [60])
    one = dataset(client, transform=FailsOnce(tmp_path))
    batches, seen = by(one, workers), []
    with pytest.raises(ValueError, match="an odd picture"):
        seen += ids_of(batch for batch in batches if not seen.append(batch["id"].tolist()))  # type: ignore[func-returns-value]
    assert seen == [[*range(10)], [*range(10, 20)]]
    assert one.rows_left == 40
    assert ids_of(batches) == [[*range(first, first + 10)] for first in range(20, 60, 10)]


def replace(client: bowstring.Client) -> None:
    """Another stream of the same name, with other rows."""
    client.delete_stream("rows")
    fill(client, [10] * 18, first=1000)
    client.complete_stream("rows")


@pytest.mark.parametrize("workers", [None, 0, 1])
def test_the_state_of_a_stream_that_was_replaced_is_refused(client: bowstring.Client, workers: int | None) -> None:
    fill(client, [10] * 18)
    former = dataset(client)
    assert len(ids_of(former)) == 6
    state = former.state_dict()
    replace(client)
    with pytest.raises(bowstring.StreamReplaced, match="begin without a state") as caught:
        former.ack(state)
    assert caught.value.code == "stream_replaced"
    with pytest.raises(bowstring.StreamReplaced):
        ids_of(former)
    again = dataset(client)
    again.load_state_dict(state)
    with pytest.raises(bowstring.StreamReplaced):
        ids_of(by(again, workers))
    assert sorted(chain.from_iterable(ids_of(dataset(client)))) == list(range(1000, 1060)), "from the first row on"


@pytest.mark.parametrize("rounds_acked", [0, 2])
def test_a_rank_waits_for_rank_0_though_rounds_of_a_former_stream_are_there(
    client: bowstring.Client, rounds_acked: int
) -> None:
    fill(client, [10] * 18)
    former = dataset(client)
    for number in range(3):
        assert len(ids_of(former)) == 6
        if number < rounds_acked:
            former.ack()
    replace(client)
    with pytest.raises(bowstring.Timeout, match="which rank 0 makes"):
        ids_of(dataset(client, 1, 2, timeout=0.5))
    seen: dict[int, list[list[int]]] = {}
    first = threading.Thread(target=lambda: seen.update({1: ids_of(dataset(client, 1, 2))}))
    first.start()
    seen[0] = ids_of(dataset(client, 0, 2))
    first.join(60)
    assert sorted(chain.from_iterable(seen[0] + seen[1])) == list(range(1000, 1060))


def test_a_rank_that_waits_is_told_that_its_stream_was_replaced(client: bowstring.Client) -> None:
    fill(client, [60])
    ranks = [dataset(client, rank, 2) for rank in range(2)]
    assert [len(ids_of(one)) for one in ranks] == [3, 3]
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            ids_of(ranks[1])
        except bowstring.BowstringError as error:
            caught.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    replace(client)
    assert len(ids_of(dataset(client, 0, 2))) == 3
    waiting.join(60)
    assert [type(one) for one in caught] == [bowstring.StreamReplaced]

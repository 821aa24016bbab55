"""Every rank has the same number of batches, all rows come once, and a state is exact."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

import bowstring
from bowstring.torch import Batch, StreamDataset

from ..test_documents import run
from .support import fill, ids_of

SIZES = [7, 1, 30, 4, 4, 0, 19, 2, 11, 40, 3, 3, 5, 64, 8]


def dataset(client: bowstring.Client, rank: int = 0, world_size: int = 1, **options: object) -> StreamDataset:
    given = {"batch_rows": 8, "round_rows": 60, "timeout": 30.0, **options}
    return StreamDataset(client.url, "rows", rank=rank, world_size=world_size, **given)  # type: ignore[arg-type]


def rounds(one: StreamDataset) -> Iterator[list[list[int]]]:
    """Round by round the ids of each batch."""
    while batches := ids_of(one):
        yield batches


def flat(nested: Iterable[Iterable[Any]]) -> list[Any]:
    return list(chain.from_iterable(nested))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_have_equally_many_batches_in_each_round_and_together_all_rows(
    client: bowstring.Client, world_size: int
) -> None:
    total = fill(client, SIZES)
    client.complete_stream("rows")
    ranks = [dataset(client, rank, world_size) for rank in range(world_size)]
    seen = [list(rounds(one)) for one in ranks]
    counts = [[len(batches) for batches in of_rank] for of_rank in seen]
    assert all(one == counts[0] for one in counts)
    assert all(len(batch) == 8 for of_rank in seen for batches in of_rank for batch in batches)
    rows = flat(flat(flat(seen)))
    assert len(rows) == len(set(rows)) == total - ranks[0].rows_left
    assert ranks[0].rows_left == total % (8 * world_size)


def test_rows_come_in_turn_from_all_partitions(client: bowstring.Client) -> None:
    fill(client, [4] * 6)
    client.complete_stream("rows")
    assert ids_of(dataset(client, batch_rows=12, round_rows=12)) == [list(range(12))]


@pytest.mark.parametrize(
    ("remainder", "steps", "expected"),
    [
        # Rounds of 60 and 40 rows, in steps of 16; the last 4 are too few for one.
        ("carry", [3, 3], [*range(96)]),
        ("drop", [3, 2], [*range(48), *range(60, 92)]),
        # Filled up from the round's beginning.
        ("pad", [4, 3], [*range(60), *range(4), *range(60, 100), *range(60, 68)]),
    ],
)
def test_what_remains_of_a_round_is_carried_dropped_or_padded(
    client: bowstring.Client, remainder: str, steps: list[int], expected: list[int]
) -> None:
    fill(client, [10] * 10, partitions=1)
    client.complete_stream("rows")
    seen = [list(rounds(dataset(client, rank, 2, remainder=remainder))) for rank in range(2)]
    assert [[len(batches) for batches in of_rank] for of_rank in seen] == [steps, steps]
    in_steps = [[*mine, *other] for mine, other in zip(flat(seen[0]), flat(seen[1]), strict=True)]
    assert flat(in_steps) == expected


def test_rounds_that_are_too_small_for_a_step_are_not_all_dropped_in_silence(client: bowstring.Client) -> None:
    fill(client, [10] * 10)
    client.complete_stream("rows")
    for rank in range(2):
        with pytest.raises(bowstring.InvalidArgument, match=r"round_rows is 15, .* world_size 2 with batch_rows 8"):
            list(dataset(client, rank, 2, round_rows=15, remainder="drop"))
    assert [len(one) for one in rounds(dataset(client, 0, 2, round_rows=16, remainder="drop"))] == [1] * 6


def test_every_batch_has_the_state_that_goes_on_behind_it(client: bowstring.Client) -> None:
    fill(client, SIZES)
    client.complete_stream("rows")
    batches = []
    one = dataset(client)
    while got := list(one):
        batches += got
    whole = ids_of(batches)
    for number, batch in enumerate(batches):
        again = dataset(client)
        again.load_state_dict(json.loads(json.dumps(batch.state)))
        assert again.state_dict() == batch.state
        assert flat(rounds(again)) == whole[number + 1 :]


def together(ranks: list[StreamDataset], steps: int) -> Iterator[list[Batch]]:
    """So many steps, each with a batch of every rank, through the rounds; fewer at the end of the stream."""
    while steps:
        at = 0
        for batches in zip(*ranks, strict=True):
            yield list(batches)
            at += 1
            if at == steps:
                return
        if not at:
            return
        steps -= at


@pytest.mark.parametrize("remainder", ["carry", "pad", "drop"])
def test_ranks_that_leave_and_join_lose_and_double_nothing(client: bowstring.Client, remainder: str) -> None:
    total = fill(client, SIZES)
    client.complete_stream("rows")
    whole = flat(flat(rounds(dataset(client, batch_rows=4, remainder="carry"))))
    assert len(set(whole)) == len(whole) == total - total % 4
    state, seen = None, []
    for world_size, steps in ((3, 4), (1, 5), (2, 3), (4, 2), (1, 1000)):
        ranks = [dataset(client, rank, world_size, batch_rows=4, remainder=remainder) for rank in range(world_size)]
        for one in ranks:
            if state is not None:
                one.load_state_dict(state)
        for batches in together(ranks, steps):
            seen += flat(ids_of(batches))
            state = batches[0].state
            assert all(batch.state == state for batch in batches)
    if remainder == "carry":
        assert seen == whole, "in the very order of one rank"
    elif remainder == "pad":
        assert list(dict.fromkeys(seen)) == [*whole, *sorted(set(range(total)) - set(whole))], "all, some twice"
    else:
        assert len(set(seen)) == len(seen) > total * 0.8
        assert seen == [one for one in whole if one in set(seen)]


def test_acks_keep_what_a_state_needs_and_nothing_before(client: bowstring.Client) -> None:
    fill(client, [10] * 30)
    client.complete_stream("rows")
    one = dataset(client, batch_rows=10, round_rows=45)
    client.subscribe("rows", "training")
    before = sum(place["start"] for place in client.describe_stream("rows")["partitions"])
    assert before == 0
    states, seen = [], []
    while got := list(one):
        states += [batch.state for batch in got]
        seen += ids_of(got)
    for number in (0, 3, 11, 20):
        one.ack(states[number])
        dropped = sum(place["start"] for place in client.describe_stream("rows")["partitions"])
        assert number - 2 <= dropped <= number + 1
        again = dataset(client, batch_rows=10, round_rows=45)
        again.load_state_dict(states[number])
        assert flat(rounds(again)) == seen[number + 1 :]
    # An older state is no reason to keep more, and none to fail.
    one.ack(states[0])
    with pytest.raises(bowstring.OffsetError):
        again = dataset(client, batch_rows=10, round_rows=45)
        again.load_state_dict(states[3])
        list(rounds(again))


def test_without_a_state_a_training_begins_behind_the_last_ack(client: bowstring.Client) -> None:
    fill(client, [10] * 30, partitions=1)
    client.complete_stream("rows")
    one = dataset(client, batch_rows=10, round_rows=45)
    iterator = iter(one)
    assert flat(ids_of(next(iterator) for _ in range(3))) == list(range(30))
    one.ack()
    assert flat(flat(rounds(dataset(client, batch_rows=10, round_rows=45)))) == list(range(30, 300))


def test_a_round_waits_for_its_rows_and_does_not_keep_their_producer_waiting(client: bowstring.Client) -> None:
    client.create_stream("rows", partitions=1, max_buffered_batches=4)
    producing = threading.Thread(target=fill, args=(client, [10] * 40, 1))
    with pytest.raises(bowstring.Timeout, match="60 rows"):
        list(dataset(client, timeout=0.3))
    producing.start()
    one = dataset(client, batch_rows=30, round_rows=200)
    assert flat(ids_of(one)) == list(range(180)), "more than the stream has room for"
    assert flat(ids_of(one)) == list(range(180, 390))
    producing.join(30)
    assert not producing.is_alive()


def test_the_pages_example_ends_with_the_stream_and_saves_in_rank_0(
    client: bowstring.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"x": range(1024), "y": range(1024)}
    with client.producer("samples") as producer:
        producer.append(pa.record_batch({name: list(values) for name, values in rows.items()}))
        producer.complete()
    # Rounds for rank 1, which comes first: what rank 0 acks does not come again.
    planning = StreamDataset(client.url, "samples", batch_rows=256, round_rows=100_000, rank=0, world_size=2)
    while list(planning):
        pass
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    trained: list[int] = []
    names = {"url": client.url, "model": torch.nn.Linear(1, 1), "train": lambda x, y: trained.extend((x - y).tolist())}
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        run("docs/torch.md", names=names)
        assert Path("saved.pt").exists() == (rank == 0)
    assert trained == [0] * 1024
    assert torch.load("saved.pt")["stream"]["next_round"] == 1


def test_a_stream_that_fails_fails_the_ranks_after_what_it_had(client: bowstring.Client) -> None:
    fill(client, [10] * 5)
    client.fail_stream("rows", "the source burnt down")
    for rank in range(2):
        one = dataset(client, rank, 2, batch_rows=5)
        assert len(ids_of(one)) == 5
        with pytest.raises(bowstring.StreamFailed, match="the source burnt down"):
            list(one)


def test_a_second_rank_0_fences_the_first(client: bowstring.Client) -> None:
    fill(client, [60] * 4)
    first, second = dataset(client), dataset(client)
    assert ids_of(first) == ids_of(second)
    # What is made already is the same for both. The first cannot make one more.
    with pytest.raises(bowstring.Fenced):
        ids_of(first)
    assert len(ids_of(second)) == len(ids_of(second)) + 1 == 8


def test_arguments_that_cannot_be_used_are_refused(client: bowstring.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({"batch_rows": 0}, {"round_rows": 0}, {"remainder": "keep"}):
        with pytest.raises(bowstring.InvalidArgument, match=next(iter(options))):
            dataset(client, **options)
    with pytest.raises(bowstring.InvalidArgument, match="rank is 2 of world_size 2"):
        iter(dataset(client, 2, 2)).__next__()
    with pytest.raises(bowstring.InvalidArgument, match="no state"):
        dataset(client).state_dict()
    fill(client, [60])
    client.complete_stream("rows")
    one = dataset(client)
    list(one)
    other = StreamDataset(client.url, "other", batch_rows=8, round_rows=60)
    with pytest.raises(bowstring.InvalidArgument, match="stream rows"):
        other.load_state_dict(one.state_dict())
    with pytest.raises(bowstring.InvalidArgument, match="version"):
        one.load_state_dict({})
    with pytest.raises(bowstring.InvalidArgument, match="lacks stream_id, left"):
        one.load_state_dict({"version": 2, "stream": "rows", "subscription": "training", "next_round": 1})
    with pytest.raises(bowstring.InvalidArgument, match="columns has nope, y; stream rows has id, x"):
        list(dataset(client, columns=["nope", "x", "y"]))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    place = StreamDataset(client.url, "rows", batch_rows=1, round_rows=1).place()
    assert (place.rank, place.world_size) == (1, 4)
    with pytest.raises(bowstring.InvalidArgument, match=r"dataset\.loader"):
        list(torch.utils.data.DataLoader(one, batch_size=None, num_workers=1))

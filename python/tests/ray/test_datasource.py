"""Streams as Ray datasets: all that is there, ranges, epochs, and what a subscription has not acked."""

from __future__ import annotations

import pyarrow as pa
import pytest
import ray.data

import bowstring
from bowstring.ray import read_bowstring, unread

from ..support import numbered

pytestmark = pytest.mark.usefixtures("ray_session")


def fill(client: bowstring.Client, batches: int, partitions: int = 2, first: int = 0) -> None:
    client.create_stream("numbers", partitions=partitions, max_buffered_batches=1000, if_not_exists=True)
    with client.producer("numbers") as producer:
        for number in range(first, first + batches):
            producer.append(numbered(number * 10), partition=number % partitions)


def commit(client: bowstring.Client, producer: str, epoch: int, batches: dict[int, pa.RecordBatch]) -> None:
    client.open_epoch("numbers", producer, "run", epoch)
    writer = client.writer("numbers", producer=producer, run="run", epoch=epoch, task=0, attempt=0)
    for partition, batch in batches.items():
        writer.append(batch, partition)
    client.commit_epoch("numbers", producer, "run", epoch, [writer.finish()])


def numbers(dataset: ray.data.Dataset) -> list[int]:
    rows = dataset.take_all()
    assert all(row["text"] == f"row {row['id']}" for row in rows)
    return sorted(row["id"] for row in rows)


def test_what_is_there_now_is_a_dataset_of_as_many_tasks_as_asked_for(client: bowstring.Client) -> None:
    fill(client, 21)
    dataset = read_bowstring(client.url, "numbers", override_num_blocks=6)
    assert dataset.schema().names == ["id", "text"]
    fill(client, 5, first=21)
    assert numbers(dataset) == list(range(210)), "what came since is not in it"
    assert numbers(dataset) == list(range(210)), "and it can be executed again"
    assert dataset.map_batches(lambda rows: {"odd": rows["id"] % 2}).sum("odd") == 105
    assert dataset.count() == 210
    assert client.lag("numbers").subscriptions == ()


def test_each_task_reads_a_part_of_one_partition(client: bowstring.Client) -> None:
    fill(client, 21)
    source = unread(client.url, "numbers", "reader")
    from bowstring.ray.datasource import StreamDatasource

    for parallelism, expected in ((1, 2), (2, 2), (6, 6), (100, 21)):
        tasks = StreamDatasource(source).get_read_tasks(parallelism)
        assert len(tasks) == expected
        rows = [row for task in tasks for table in task() for row in table["id"].to_pylist()]
        assert sorted(rows) == list(range(210))
    assert 1_000 < StreamDatasource(source).estimate_inmemory_data_size() < 100_000


def test_a_range_of_offsets(client: bowstring.Client) -> None:
    fill(client, 20)
    assert numbers(read_bowstring(client.url, "numbers", offsets={0: (1, 3), 1: (9, 10)})) == [
        *range(20, 30),
        *range(40, 50),
        *range(190, 200),
    ]
    for wrong in ({2: (0, 1)}, {0: (0, 11)}, {0: (3, 1)}):
        with pytest.raises(bowstring.OffsetError, match="are not there"):
            read_bowstring(client.url, "numbers", offsets=wrong)
    with pytest.raises(bowstring.StreamNotFound):
        read_bowstring(client.url, "nothing")


def test_what_is_dropped_before_it_is_read_is_an_error_and_no_gap(client: bowstring.Client) -> None:
    fill(client, 4)
    dataset = read_bowstring(client.url, "numbers")
    client.subscribe("numbers", "other")
    client.ack("numbers", "other", {0: 1})
    # Ray tells an error of a task by one that is of the task's class, too, or only by its text.
    with pytest.raises(Exception, match=r"errors\.OffsetError: "):
        dataset.take_all()


def test_what_was_replaced_before_it_is_read_is_an_error(client: bowstring.Client) -> None:
    client.create_stream("numbers", partitions=2)
    commit(client, "job", 1, {0: numbered(0), 1: numbered(10)})
    datasets = [read_bowstring(client.url, "numbers"), read_bowstring(client.url, "numbers", epoch=1)]
    client.delete_stream("numbers")
    client.create_stream("numbers", partitions=2)
    commit(client, "job", 1, {0: numbered(100), 1: numbered(110)})
    for dataset in datasets:
        with pytest.raises(Exception, match=r"errors\.StreamReplaced: "):
            dataset.take_all()


def test_an_epoch_is_a_dataset_whoever_else_commits(client: bowstring.Client) -> None:
    client.create_stream("numbers", partitions=3, max_buffered_batches=1000)
    commit(client, "job", 1, {0: numbered(0), 1: numbered(10)})
    commit(client, "job", 2, {1: numbered(100), 2: numbered(110)})
    assert numbers(read_bowstring(client.url, "numbers", epoch=1)) == list(range(20))
    commit(client, "other", 2, {1: numbered(500)})
    commit(client, "job", 4, {0: numbered(200), 1: numbered(210)})
    for epoch, expected in ((1, range(20)), (2, range(100, 120)), (3, ()), (4, range(200, 220))):
        assert numbers(read_bowstring(client.url, "numbers", epoch=bowstring.Epoch(epoch, "job"))) == list(expected)
    assert numbers(read_bowstring(client.url, "numbers", epoch=bowstring.Epoch(2, "other"))) == list(range(500, 510))
    with pytest.raises(bowstring.InvalidArgument, match="2 producers"):
        read_bowstring(client.url, "numbers", epoch=1)
    with pytest.raises(bowstring.OffsetError, match="not committed"):
        read_bowstring(client.url, "numbers", epoch=bowstring.Epoch(5, "job"))
    with pytest.raises(bowstring.InvalidArgument, match="not both"):
        read_bowstring(client.url, "numbers", epoch=1, offsets={0: (0, 1)})


def test_an_epoch_at_hand_is_a_dataset(client: bowstring.Client) -> None:
    client.create_stream("numbers", partitions=2)
    commit(client, "job", 1, {0: numbered(0), 1: numbered(10)})
    with client.subscription("numbers", "reader").epochs() as epochs:
        assert numbers(ray.data.from_arrow(next(epochs).to_table())) == list(range(20))


def test_what_a_subscription_has_not_acked_is_held_until_the_dataset_is_done(client: bowstring.Client) -> None:
    fill(client, 6)
    first = unread(client.url, "numbers", "nightly")
    assert first.batches == 6
    # The job dies here; the next one gets the same, and what came since.
    fill(client, 4, first=6)
    again = unread(client.url, "numbers", "nightly")
    assert numbers(again.dataset()) == list(range(100))
    assert numbers(first.dataset()) == list(range(60))
    again.ack()
    assert client.lag("numbers")["nightly"].total.batches == 0
    rest = unread(client.url, "numbers", "nightly")
    assert (rest.batches, numbers(rest.dataset())) == (0, [])
    with pytest.raises(bowstring.InvalidArgument):
        client.subscribe("numbers", "team", mode="shared")
        unread(client.url, "numbers", "team")
    client.delete_stream("numbers")
    fill(client, 2)
    client.subscribe("numbers", "nightly")
    with pytest.raises(bowstring.StreamReplaced):
        again.ack()


def test_an_empty_stream_is_an_empty_dataset(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    assert read_bowstring(client.url, "numbers").count() == 0

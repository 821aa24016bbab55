"""Streams over several coordinators: numbers, order, ends, and coordinators that go and come back elsewhere."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from threading import Thread

import pyarrow as pa
import pytest

import bowstring
from bowstring.spread import SpreadClient
from bowstring.spread.asking import next_ordinal
from bowstring.spread.places import counts
from bowstring.streaming import create_partitioned_iterators

from .support import ids, numbered, wait_until


@pytest.fixture
def three() -> Iterator[SpreadClient]:
    with ExitStack() as running:
        urls = [running.enter_context(bowstring.StreamCoordinator()).url for _ in range(3)]
        yield SpreadClient(urls)


def fill(client: SpreadClient, stream: str, batches: int) -> None:
    with client.producer(stream) as producer:
        for number in range(batches):
            producer.append(numbered(number * 10))
        producer.complete()


def by_partition(iterator: bowstring.StreamingIterator) -> dict[int, list[tuple[int, int]]]:
    found: dict[int, list[tuple[int, int]]] = {}
    for one in iterator.batches_with_offsets():
        found.setdefault(one.partition, []).append((one.offset, one.batch["id"][0].as_py()))
    return found


def test_partitions_are_divided_by_turns() -> None:
    assert counts(7, 3) == [3, 2, 2]
    assert counts(2, 3) == [1, 1, 0]


@pytest.mark.parametrize("partitions", [3, 4, 7])
def test_each_batch_comes_once_by_the_number_of_its_partition(three: SpreadClient, partitions: int) -> None:
    description = three.create_stream("numbers", partitions=partitions)
    assert [one["partition"] for one in description["partitions"]] == list(range(partitions))
    fill(three, "numbers", 50)
    found = by_partition(three.iterator("numbers"))
    assert found == {
        partition: [(offset, 10 * number) for offset, number in enumerate(range(partition, 50, partitions))]
        for partition in range(partitions)
    }
    assert three.describe_stream("numbers")["state"] == "completed"
    wait_until(lambda: three.lag("numbers")["default"].total.batches == 0)


def test_the_coordinators_know_their_parts_alone(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=7)
    assert [len(three.coordinator(index).describe_stream("numbers")["partitions"]) for index in range(3)] == [3, 2, 2]
    places = three.places("numbers")
    assert places.place(5) == (2, 1)
    assert places.number(2, 1) == 5
    with pytest.raises(bowstring.OffsetError) as caught:
        places.place(7)
    assert caught.value.code == "partition_out_of_range"


def test_a_batch_goes_to_the_partition_that_it_is_given(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=5)
    with three.producer("numbers") as producer:
        for number in range(10):
            producer.append(numbered(number * 10), partition=4)
        with pytest.raises(bowstring.OffsetError):
            producer.append(numbered(0), partition=5)
        producer.flush()
        assert producer.stored == 10
        producer.complete()
    assert by_partition(three.iterator("numbers")) == {4: [(number, 10 * number) for number in range(10)]}


def test_tables_are_appended_batch_by_batch(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=3)
    with three.producer("numbers") as producer:
        producer.append(pa.Table.from_batches([numbered(0), numbered(10), numbered(20)]))
        with pytest.raises(TypeError):
            producer.append("text")
        producer.complete()
    assert sorted(ids(three.iterator("numbers"))) == list(range(30))


def test_several_threads_append_and_each_ones_batches_stay_in_order(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=3)
    producer = three.producer("numbers")

    def append(thread: int) -> None:
        for number in range(40):
            producer.append(numbered(thread * 1000 + number * 10), partition=number % 3)

    threads = [Thread(target=append, args=(thread,)) for thread in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    producer.complete()
    found = by_partition(three.iterator("numbers"))
    for partition in range(3):
        for thread in range(4):
            own = [first for _, first in found[partition] if first // 1000 == thread]
            assert own == [thread * 1000 + number * 10 for number in range(partition, 40, 3)]


def test_iterators_take_the_partitions_that_they_are_given_and_pickle(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=7)
    fill(three, "numbers", 70)
    iterators = create_partitioned_iterators(three, 2, 7)
    copies = [pickle.loads(pickle.dumps(one)) for one in iterators]
    found = [by_partition(one) for one in copies]
    assert [sorted(one) for one in found] == [[0, 2, 4, 6], [1, 3, 5]]
    assert sum(len(batches) for one in found for batches in one.values()) == 70


def test_acks_go_to_the_coordinator_that_the_batch_is_from(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=6)
    fill(three, "numbers", 60)
    with three.iterator("numbers", auto_ack=False) as iterator:
        taken = [next(iterator) for _ in range(30)]
        assert len(taken) == 30
        iterator.ack()
        iterator.flush()
        acked = {
            one["partition"]: one["acked"] for one in three.describe_stream("numbers")["subscriptions"][0]["partitions"]
        }
        assert sum(acked.values()) == 30
    rest = ids(three.iterator("numbers"))
    assert sorted(ids(taken) + rest) == list(range(600))


def test_single_acks_keep_what_is_not_acked(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=3)
    fill(three, "numbers", 9)
    kept = []
    iterator = three.iterator("numbers")
    for handle in iterator.handles():
        if handle.partition == 1:
            kept.append(handle.offset)
        else:
            handle.ack()
    iterator.close()
    assert kept == [0, 1, 2]
    assert by_partition(three.iterator("numbers")) == {1: [(0, 10), (1, 40), (2, 70)]}


def test_a_failed_stream_gives_what_was_there_and_then_the_reason(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=3)
    producer = three.producer("numbers")
    for number in range(9):
        producer.append(numbered(number * 10))
    producer.fail("no more")
    found = []
    with pytest.raises(bowstring.StreamFailed, match="no more"):
        found += [batch["id"][0].as_py() for batch in _noting(three.iterator("numbers"), found)]
    assert sorted(found) == [number * 10 for number in range(9)]


def test_a_failure_at_one_coordinator_waits_for_the_others_up_to_the_deadline(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=3)
    three.coordinator(1).fail_stream("numbers", "no more")
    iterator = three.iterator("numbers", timeout=0.0)
    consumer = iterator._open()
    table = consumer._table
    with pytest.raises(bowstring.Timeout):
        next(iterator)
    seat = table.seats[1]
    wait_until(lambda: seat.state == "ready")
    with table.changed:
        assert isinstance(seat.found, bowstring.StreamFailed)
        seat.since -= 50
        assert consumer._next() is None
        seat.since -= 10
        assert consumer._next() is seat
    with pytest.raises(bowstring.StreamFailed, match="no more"):
        next(iterator)
    iterator.close()


def _noting(iterator: Iterator[pa.RecordBatch], found: list[int]) -> Iterator[pa.RecordBatch]:
    for batch in iterator:
        found.append(batch["id"][0].as_py())
    yield from ()


def test_a_timeout_says_so_and_the_iterator_may_be_asked_again(three: SpreadClient) -> None:
    three.create_stream("numbers")
    with three.iterator("numbers", timeout=0.2) as iterator:
        with pytest.raises(bowstring.Timeout, match="3 coordinators"):
            next(iterator)
        with three.producer("numbers") as producer:
            producer.append(numbered(0), partition=1)
        assert ids([next(patient(iterator))]) == list(range(10))


def patient(iterator: bowstring.StreamingIterator) -> Iterator[pa.RecordBatch]:
    """Its batches, however long they take."""
    while True:
        try:
            yield next(iterator)
        except StopIteration:
            return
        except bowstring.Timeout:
            continue


def test_an_iterator_waits_for_its_stream(three: SpreadClient) -> None:
    with pytest.raises(bowstring.StreamNotFound):
        next(three.iterator("numbers", stream_wait=0.0))
    with pytest.raises(bowstring.StreamNotFound):
        three.producer("numbers")
    found: list[int] = []
    reading = Thread(target=lambda: found.extend(ids(three.iterator("numbers"))))
    reading.start()
    three.create_stream("numbers", partitions=4)
    fill(three, "numbers", 8)
    reading.join()
    assert sorted(found) == list(range(80))


def test_starts_and_seeks_name_the_streams_own_partitions(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=4, retain_seconds=3600)
    fill(three, "numbers", 40)
    assert {
        partition: batches[0][0]
        for partition, batches in by_partition(three.iterator("numbers", subscription=None, start={3: 7, 0: 2})).items()
    } == {0: 2, 1: 0, 2: 0, 3: 7}
    three.subscribe("numbers", "later", {1: 4})
    assert list(three.iterator("numbers", subscription="none", start="latest")) == []
    three.ack("numbers", "later", {2: 10, 3: 9})
    moved = three.seek("numbers", "later", {3: 5}, dry_run=True)
    assert [(one.partition, one.before, one.after) for one in moved.partitions] == [
        (0, 0, 0),
        (1, 4, 4),
        (2, 10, 10),
        (3, 9, 5),
    ]
    three.seek("numbers", "later", {3: 5})
    found = by_partition(three.iterator("numbers", subscription="later"))
    assert {partition: batches[0][0] for partition, batches in found.items()} == {0: 0, 1: 4, 3: 5}
    three.seek("numbers", "later", "earliest")
    assert len(ids(three.iterator("numbers", subscription="later"))) == 400


@pytest.mark.parametrize("start", [bowstring.Epoch(1), "epoch:1", "0:1"])
def test_a_start_that_each_coordinator_would_take_for_another_is_refused(three: SpreadClient, start: object) -> None:
    three.create_stream("numbers")
    with pytest.raises(bowstring.InvalidArgument):
        three.subscribe("numbers", "later", start)


def test_a_seek_while_it_is_read_takes_the_iterator_along(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=3, retain_seconds=3600)
    with three.producer("numbers") as producer:
        for number in range(9):
            producer.append(numbered(number * 10))
    with three.iterator("numbers", timeout=20) as iterator:
        assert sorted(ids([next(iterator) for _ in range(9)])) == list(range(90))
        iterator.ack()
        iterator.flush()
        three.seek("numbers", "default", "earliest")
        assert sorted(ids([next(iterator) for _ in range(9)])) == list(range(90))
        iterator.ack()
        iterator.flush()
        assert three.lag("numbers")["default"].total.batches == 0


def test_a_seek_at_one_coordinator_leaves_what_is_to_be_acked_at_others(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=3, retain_seconds=3600)
    producer = three.producer("numbers")
    with three.iterator("numbers", auto_ack=False, timeout=60) as iterator:
        for number in range(9):
            producer.append(numbered(number * 10))
        producer.flush()
        assert sorted(ids(next(iterator) for _ in range(9))) == list(range(90))
        iterator.ack()
        iterator.flush()
        producer.append(numbered(90), partition=0)
        producer.append(numbered(100), partition=1)
        assert sorted(ids(next(iterator) for _ in range(2))) == list(range(90, 110))
        three.coordinator(0).seek("numbers", "default", "earliest")
        again = [(next(iterator), iterator.partition, iterator.offset)[1:] for _ in range(4)]
        assert again == [(0, offset) for offset in range(4)]
        iterator.ack()
        iterator.flush()
        assert three.lag("numbers")["default"].total.batches == 0


def test_a_seek_at_one_coordinator_takes_back_what_was_not_acked_there(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=6, retain_seconds=3600)
    with three.producer("numbers") as producer:
        for number in range(12):
            producer.append(numbered(number * 10))
    with three.iterator("numbers", auto_ack=False, timeout=60) as iterator:
        assert sorted(ids(next(iterator) for _ in range(12))) == list(range(120))
        three.ack("numbers", "default", {0: 2, 3: 2})
        three.coordinator(0).seek("numbers", "default", "earliest")
        next(iterator)
        assert (iterator.partition in (0, 3), iterator.offset) == (True, 0)
        first, other = iterator.partition, 3 - iterator.partition
        iterator.ack()
        iterator.flush()
        lag = {one.partition: one.batches for one in three.lag("numbers")["default"].partitions}
        assert lag == {first: 1, other: 2, 1: 0, 2: 0, 4: 0, 5: 0}


def test_a_stream_is_created_once_and_deleted_everywhere(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=4)
    with pytest.raises(bowstring.StreamExists):
        three.create_stream("numbers", partitions=4)
    with pytest.raises(bowstring.StreamExists):
        three.create_stream("numbers", partitions=5, if_not_exists=True)
    assert three.create_stream("numbers", partitions=4, if_not_exists=True)["options"]["partitions"] == 4
    assert [one["stream"] for one in three.list_streams()] == ["numbers"]
    three.delete_stream("numbers")
    assert [three.coordinator(index).list_streams() for index in range(3)] == [[], [], []]
    with pytest.raises(bowstring.StreamNotFound):
        three.delete_stream("numbers")
    with pytest.raises(bowstring.InvalidArgument, match="3 at least"):
        three.create_stream("numbers", partitions=2)


def test_a_part_that_is_gone_is_told_and_an_interrupted_creation_can_be_finished(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=6)
    three.coordinator(1).delete_stream("numbers")
    with pytest.raises(bowstring.StreamNotFound, match=r"\[1\]"):
        three.describe_stream("numbers")
    three.create_stream("numbers", partitions=6, if_not_exists=True)
    fill(three, "numbers", 6)
    assert len(ids(three.iterator("numbers"))) == 60


def test_coordinators_in_another_order_are_noticed_where_they_can_be(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=4)
    with pytest.raises(bowstring.InvalidArgument, match="same order"):
        SpreadClient(list(reversed(three.urls))).describe_stream("numbers")


def test_a_client_pickles(three: SpreadClient) -> None:
    three.create_stream("numbers")
    copy = pickle.loads(pickle.dumps(three))
    assert copy.urls == three.urls
    assert copy.describe_stream("numbers")["stream"] == "numbers"


@pytest.mark.parametrize("where", [[], "grpc://127.0.0.1:1"])
def test_a_client_needs_coordinators(where: object) -> None:
    with pytest.raises(bowstring.InvalidArgument):
        SpreadClient(where)


def test_options_of_the_client_are_not_the_iterators(three: SpreadClient) -> None:
    with pytest.raises(bowstring.InvalidArgument, match="SpreadClient"):
        three.iterator("numbers", retry_deadline=1.0)


def test_the_first_answer_to_a_put_is_read_as_the_protocol_says() -> None:
    assert next_ordinal(b"") == 0
    assert next_ordinal(b"\x08\x07") == 7
    assert next_ordinal(b"\x08\xac\x02\x18\x01") == 300
    with pytest.raises(ValueError, match="within a number"):
        next_ordinal(b"\x08\xac")


def test_after_a_refusal_a_producer_goes_on(three: SpreadClient) -> None:
    three.create_stream("numbers", partitions=3)
    with three.producer("numbers") as producer:
        producer.append(numbered(0), partition=0)
        with pytest.raises(bowstring.SchemaMismatch):
            producer.append(pa.record_batch({"other": [1]}), partition=0)
            producer.flush()
        producer.append(numbered(10), partition=0)
        producer.complete()
    assert ids(three.iterator("numbers")) == list(range(20))

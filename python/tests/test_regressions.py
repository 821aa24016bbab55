"""What peers were seen to get wrong, and no other file here shows: docs/regressions.md has the whole list."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import bowstring

from .support import PROMPT, Child, ids, numbered, wait_until


def fill(client: bowstring.Client, batches: int, first: int = 0) -> None:
    with client.producer("numbers") as producer:
        for number in range(first, first + batches):
            producer.append(numbered(number * 10))


def blocked(client: bowstring.Client, **options: float) -> bowstring.Producer:
    """A producer whose batch waits for room in a stream that is full with two others."""
    fill(client, 2)
    producer = client.producer("numbers", **options)
    producer.append(numbered(20))
    wait_until(lambda: client.describe_stream("numbers")["waiting"])
    return producer


def test_a_producer_that_waits_for_room_is_told_at_once_that_the_stream_has_failed(client: bowstring.Client) -> None:
    client.create_stream("numbers", max_buffered_batches=2)
    producer = blocked(client)
    errors: list[bowstring.BowstringError] = []

    def flush() -> None:
        with pytest.raises(bowstring.StreamFailed, match="the model diverged") as caught:
            producer.flush()
        errors.append(caught.value)

    waiting = threading.Thread(target=flush)
    waiting.start()
    failed = time.monotonic()
    client.fail_stream("numbers", "the model diverged")
    waiting.join(PROMPT)
    assert time.monotonic() - failed < PROMPT
    assert [error.retryable for error in errors] == [False]


def test_a_producer_whose_last_subscription_goes_waits_for_the_next_one_and_no_longer_than_its_deadline(
    client: bowstring.Client,
) -> None:
    """By design: a stream without subscriptions keeps everything for the first that comes."""
    client.create_stream("numbers", max_buffered_batches=2)
    client.subscribe("numbers", "only")
    impatient = blocked(client, append_timeout=0.5)
    client.unsubscribe("numbers", "only")
    with pytest.raises(bowstring.Timeout, match="nothing of this batch is stored"):
        impatient.flush()
    producer = client.producer("numbers")
    producer.append(numbered(20))
    wait_until(lambda: client.describe_stream("numbers")["waiting"])
    with client.iterator("numbers", subscription="next", timeout=20) as iterator:
        assert ids(next(iterator) for _ in range(3)) == list(range(30)), "it has missed nothing"
    producer.close(timeout=10)


def test_a_subscription_whose_consumer_is_dead_holds_up_the_others_until_it_is_removed(
    client: bowstring.Client, start_child: Callable[..., Child]
) -> None:
    """By design, in memory: nothing is dropped that a subscription has not acked, and nobody else removes it."""
    client.create_stream("numbers", max_buffered_batches=4)
    client.subscribe("numbers", "dead")
    client.subscribe("numbers", "live")
    producer = client.producer("numbers")
    for number in range(4):
        producer.append(numbered(number * 10))
    child = start_child("consume", client.url, "numbers", "dead", 1, 1)
    assert [child.line(), child.line()] == ["0", "ready"]
    child.kill()
    with client.iterator("numbers", subscription="live", timeout=20) as live:
        got = ids(next(live) for _ in range(4))
        for number in range(4, 12):
            producer.append(numbered(number * 10))
        wait_until(lambda: client.describe_stream("numbers")["waiting"])
        behind = {
            one["subscription"]: one["partitions"][0]["lag_batches"]
            for one in client.describe_stream("numbers")["subscriptions"]
        }
        assert behind["dead"] == 4, "it is plain to see who holds the room"
        client.unsubscribe("numbers", "dead")
        got += ids(next(live) for _ in range(8))
    assert got == list(range(120))
    producer.close(timeout=10)


def test_who_comes_late_can_see_what_is_gone(client: bowstring.Client) -> None:
    """By design: what every subscription has acked goes, unless the stream retains it."""
    fill(client, 7)
    client.subscribe("numbers", "early")
    client.ack("numbers", "early", {0: 4})
    with client.iterator("numbers", subscription="late", follow=False) as late:
        offsets = [one.offset for one in late.batches_with_offsets()]
    assert offsets == [4, 5, 6], "four are gone, and the first offset says so"
    assert client.describe_stream("numbers")["partitions"][0]["start"] == 4
    with pytest.raises(bowstring.OffsetError) as gone:
        list(client.read("numbers", 0, 0, 7))
    assert gone.value.code == "offset_gone"


def test_partitions_that_nobody_reads_are_held_and_seen_and_can_be_read_later(client: bowstring.Client) -> None:
    client.create_stream("numbers", partitions=3)
    fill(client, 9)
    with client.iterator("numbers", partitions=[0, 2], follow=False) as two_of_three:
        got = ids(two_of_three)
    cursors = client.describe_stream("numbers")["subscriptions"][0]["partitions"]
    assert [cursor["lag_batches"] for cursor in cursors] == [0, 3, 0]
    with client.iterator("numbers", partitions=[1], follow=False) as third:
        assert sorted(got + ids(third)) == list(range(90))


def test_producers_that_start_together_on_a_stream_that_is_not_there_lose_no_first_batch(
    client: bowstring.Client,
) -> None:
    together = threading.Barrier(8)
    errors: list[bowstring.BowstringError] = []

    def start(number: int) -> None:
        try:
            own = bowstring.connect(client.url)
            together.wait(30)
            with own.producer("numbers") as producer:
                producer.append(numbered(number * 10))
        except bowstring.BowstringError as error:
            errors.append(error)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    client.complete_stream("numbers")
    assert sorted(ids(client.iterator("numbers"))) == list(range(80))


def test_work_that_takes_long_and_holds_the_gil_loses_a_consumer_nothing(client: bowstring.Client) -> None:
    """A consumer calls nothing while it works: no heartbeat of Python's stands between it and its next batch."""
    client.create_stream("numbers", max_buffered_batches=4)
    client.subscribe("numbers", "slow")
    producer = client.producer("numbers")
    for number in range(4):
        producer.append(numbered(number * 10))
    got: list[int] = []
    with client.iterator("numbers", subscription="slow", timeout=30, prefetch_batches=1) as iterator:
        for batch in iterator:
            got += ids([batch])
            if iterator.offset == 1:
                # Unlike CDLL's, its functions keep the GIL.
                ctypes.PyDLL(None).sleep(3)
                for number in range(4, 8):
                    producer.append(numbered(number * 10))
            if len(got) == 80:
                break
    assert got == list(range(80)), "each once"
    producer.close(timeout=10)


def test_a_late_commit_or_abort_does_nothing_to_what_came_after_it(client: bowstring.Client) -> None:
    client.create_stream("numbers")

    def stage(epoch: int, attempt: int, first: int) -> bytes:
        writer = client.writer("numbers", producer="job", run="run", epoch=epoch, task=0, attempt=attempt)
        writer.append(numbered(first))
        return writer.finish()

    def committed() -> list[int]:
        return ids(client.iterator("numbers", subscription=None, follow=False))

    client.open_epoch("numbers", "job", "run", 0)
    former = stage(0, 0, 0)
    client.abort_epoch("numbers", "job", "run", 0)
    client.open_epoch("numbers", "job", "run", 0)
    # With the numbers of the task that it repeats, as a writer of one's own may have.
    again = stage(0, 0, 10)
    with pytest.raises(bowstring.EpochError) as late:
        client.commit_epoch("numbers", "job", "run", 0, [former])
    assert (late.value.code, committed()) == ("receipt_unknown", [])
    assert client.commit_epoch("numbers", "job", "run", 0, [again]) == "committed"

    client.open_epoch("numbers", "job", "run", 1)
    following = stage(1, 0, 20)
    assert client.commit_epoch("numbers", "job", "run", 0, [again]) == "already_committed"
    assert client.abort_epoch("numbers", "job", "run", 0) == "already_committed"
    with pytest.raises(bowstring.InvalidArgument, match="is of epoch 0"):
        client.commit_epoch("numbers", "job", "run", 1, [again])
    assert committed() == list(range(10, 20)), "nothing of the next epoch came up or went"

    # A late abort of the same epoch takes the new try with it, whose commit is then refused: it is run again.
    client.abort_epoch("numbers", "job", "run", 1)
    with pytest.raises(bowstring.EpochError):
        client.commit_epoch("numbers", "job", "run", 1, [following])
    client.open_epoch("numbers", "job", "run", 1)
    assert client.commit_epoch("numbers", "job", "run", 1, [stage(1, 1, 20)]) == "committed"
    assert committed() == list(range(10, 30))


def segments(data_dir: Path) -> list[Path]:
    return sorted(data_dir.rglob("*.arrows"))


@pytest.mark.parametrize("torn", [1, 100, 300])
def test_a_torn_end_of_a_log_is_cut_and_the_coordinator_starts(
    serve: Callable[..., object], tmp_path: Path, torn: int
) -> None:
    served = serve("--data-dir", str(tmp_path))
    client = bowstring.connect(served.url)
    fill(client, 5)
    served.child.kill()
    (segment,) = segments(tmp_path)
    whole = segment.read_bytes()
    # The last batch again, as far as it came to the disk.
    start = whole.rindex(b"\xff\xff\xff\xff")
    segment.write_bytes(whole + whole[start : start + torn])
    client = bowstring.connect(serve("--data-dir", str(tmp_path)).url)
    assert ids(client.iterator("numbers", subscription=None, follow=False)) == list(range(50))
    fill(client, 1, first=5)
    with client.iterator("numbers", subscription="a", follow=False) as iterator:
        found = [(one.offset, one.batch["id"][0].as_py()) for one in iterator.batches_with_offsets()]
    assert found == [(number, number * 10) for number in range(6)]

"""Who waits for whom, what is not acked, and rows that are only looked at: in Python."""

from __future__ import annotations

import os
import pickle
from threading import Thread

import pyarrow as pa
import pytest

import bowstring

from .support import ids, numbered, wait_until


@pytest.fixture
def clicks(client: bowstring.Client) -> bowstring.Client:
    """A client, and a stream of two partitions that has room for two batches, both there, in partition 1."""
    client.create_stream("clicks", partitions=2, max_buffered_batches=2)
    client.subscribe("clicks", "train")
    with client.producer("clicks", partition=1) as producer:
        producer.append(numbered(0))
        producer.append(numbered(10))
    return client


def test_a_producer_that_waits_and_the_consumer_that_it_waits_for_are_named(clicks: bowstring.Client) -> None:
    iterator = clicks.iterator("clicks", subscription="train", consumer="host-7/4211", auto_ack=False)
    next(iterator)
    producer = clicks.producer("clicks", producer_id="spark-1", partition=0)
    producer.append(numbered(20))
    flushing = Thread(target=producer.flush)
    flushing.start()
    wait_until(lambda: clicks.why("clicks").reasons[0].waits == "spark-1")
    why = clicks.why("clicks")
    [reason] = why
    assert (why.stream, reason.cause) == ("clicks", "consumer")
    assert reason.since is not None
    assert reason.since > 0
    assert str(why) == repr(why) == str(reason) == reason.text
    assert reason.text.startswith("producer spark-1 waits ")
    assert ": stream clicks is full (2 of 2 batches): subscription train holds it back: " in reason.text
    assert ": consumer host-7/4211 has held partition 1 at offset 0 for " in reason.text
    html = why._repr_html_()
    assert html.startswith("<table>")
    assert "host-7/4211" in html
    assert "<td>consumer</td>" in html
    iterator.ack()
    iterator.flush()
    flushing.join(30)
    assert not flushing.is_alive(), "what was acked gave its room"
    producer.close()
    iterator.close()


def test_lag_is_told_by_subscription_and_partition(clicks: bowstring.Client) -> None:
    clicks.ack("clicks", "train", {1: 1})
    lag = clicks.lag("clicks")
    train = lag["train"]
    assert (len(lag), [one.subscription for one in lag], lag.stream) == (1, ["train"], "clicks")
    assert (train.total.batches, train.total.rows, train.total.partition) == (1, 10, None)
    assert [(one.partition, one.acked, one.batches) for one in train.partitions] == [(0, 0, 0), (1, 1, 1)]
    behind = train.partitions[1]
    assert behind.bytes == train.total.bytes > 0
    assert behind.age > 0
    assert 0 <= behind.held <= behind.age
    assert behind.drains_in is None, "one was acked while two came"
    assert train.partitions[0].drains_in == 0
    text = str(lag)
    assert text == repr(lag)
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][:3] == ["SUBSCRIPTION", "PARTITION", "ACKED"]
    assert [line[:2] for line in lines[1:]] == [["train", "all"], ["train", "0"], ["train", "1"]]
    assert "not draining" in text
    assert lag._repr_html_().count("<tr>") == 4
    with pytest.raises(KeyError):
        lag["test"]


def test_what_comes_from_outside_is_escaped_in_html(client: bowstring.Client) -> None:
    name = "<script>alert(1)</script>"
    client.create_stream(name)
    client.subscribe(name, name)
    with client.producer(name) as producer:
        producer.append(pa.table({"<b>": ["<i>"]}))
    for shown in (client.why(name), client.lag(name), client.peek(name)):
        html = shown._repr_html_()
        assert "&lt;" in html
        assert not any(tag in html for tag in ("<script>", "<b>", "<i>")), html


def test_a_peek_gives_rows_and_moves_nothing(clicks: bowstring.Client) -> None:
    before = clicks.describe_stream("clicks")["subscriptions"]
    peek = clicks.peek("clicks", rows=15)
    assert len(peek) == 15
    assert peek.table["id"].to_pylist() == list(range(15))
    assert set(peek.table["_partition"].to_pylist()) == {1}
    assert peek.table["_offset"].to_pylist() == [0] * 10 + [1] * 5
    assert peek.table["_epoch"].null_count == 15
    assert pa.table(peek).num_rows == 15
    assert len(clicks.peek("clicks")) == 10, "by default"
    assert clicks.peek("clicks", partition=1, offset=1, rows=1).table["id"].to_pylist() == [10]
    text = str(clicks.peek("clicks", rows=1))
    assert text.splitlines()[0].split() == ["ID", "TEXT", "_PARTITION", "_OFFSET", "_EPOCH"]
    assert text.splitlines()[1].split() == ["0", "row", "0", "1", "0"]
    nothing = clicks.peek("clicks", partition=0)
    assert len(nothing) == 0
    assert nothing.table.column_names == ["id", "text", "_partition", "_offset", "_epoch"]
    assert str(nothing) == "stream clicks has no rows there"
    assert len(clicks.peek("clicks", rows=0)) == 0
    after = clicks.describe_stream("clicks")["subscriptions"]
    assert [[place["acked"] for place in one["partitions"]] for one in after] == [
        [place["acked"] for place in one["partitions"]] for one in before
    ]


def test_a_peek_that_cannot_be_says_what_would_be_right(clicks: bowstring.Client) -> None:
    with pytest.raises(bowstring.InvalidArgument, match="several partitions"):
        clicks.peek("clicks", offset=1)
    with pytest.raises(bowstring.OffsetError, match="partition 7"):
        clicks.peek("clicks", partition=7)
    clicks.ack("clicks", "train", {1: 1})
    with pytest.raises(bowstring.OffsetError):
        clicks.peek("clicks", partition=1, offset=0)
    for look in (clicks.why, clicks.lag, clicks.peek):
        with pytest.raises(bowstring.StreamNotFound):
            look("nothing")


def test_a_stream_of_one_partition_needs_no_partition_to_peek_at_an_offset(client: bowstring.Client) -> None:
    client.create_stream("one")
    assert len(client.peek("one")) == 0, "it has no schema yet"
    with client.producer("one") as producer:
        producer.append(numbered(0))
        producer.append(numbered(10))
    assert client.peek("one", offset=1, rows=1).table["id"].to_pylist() == [10]


def test_an_iterator_is_named_after_its_process_or_as_it_is_told_also_once_it_was_pickled(
    clicks: bowstring.Client,
) -> None:
    def consumers() -> list[str]:
        [train] = clicks.describe_stream("clicks")["subscriptions"]
        return [one["consumer"] for one in train["consumers"]]

    with clicks.iterator("clicks", subscription="train", auto_ack=False) as iterator:
        assert ids([next(iterator)]) == list(range(10))
        wait_until(lambda: len(consumers()) == 1)
        assert consumers()[0].endswith(f"/{os.getpid()}")
    wait_until(lambda: not consumers())
    named = clicks.iterator("clicks", subscription="train", consumer="gpu-3", auto_ack=False)
    with pickle.loads(pickle.dumps(named)) as copy:
        next(copy)
        wait_until(lambda: consumers() == ["gpu-3"])
    with pytest.raises(bowstring.InvalidArgument, match="consumer"):
        next(clicks.iterator("clicks", subscription="train", consumer=""))

"""Jobs of flows: started, stopped, run again, refused; outputs that are full, or have options of their own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import bowstring
from bowstring.flows import Flow, tumbling

from .children import CLICKS
from .flowing import fill, lag, refused, source
from .support import wait_until

X = pa.schema([("x", pa.int64())])


def append(client: bowstring.Client, *values: int, stream: str = "clicks", partition: int | None = None) -> None:
    with client.producer(stream) as producer:
        for value in values:
            producer.append(pa.record_batch({"x": [value]}), partition=partition)


def numbers(client: bowstring.Client, stream: str = "results") -> list[int]:
    """What is in a stream now, in order."""
    with client.iterator(stream, subscription=None, follow=False) as iterator:
        return sorted(value for batch in iterator for value in batch["x"].to_pylist())


def above(client: bowstring.Client) -> Flow:
    return source(client).filter("x > 0")


def test_a_stream_that_was_made_anew_is_refused(client: bowstring.Client, tmp_path: Path) -> None:
    for values in [(1, 2, 3), (10, 20, 30, 40)]:
        client.create_stream("clicks", schema=X)
        append(client, *values)
        client.complete_stream("clicks")
        job = above(client).to("results", state=str(tmp_path), complete=False)
        if values[0] == 1:
            job.run()
            client.delete_stream("clicks")
        else:
            with pytest.raises(bowstring.Unavailable, match="of another flow, which has"):
                job.run()
    assert numbers(client) == [1, 2, 3]


@pytest.mark.parametrize("mode", ["shared", "partitioned"])
def test_a_subscription_that_divides_its_batches_is_refused(client: bowstring.Client, mode: str) -> None:
    client.create_stream("clicks", schema=X)
    client.subscribe("clicks", "flow", mode=mode)
    refused(above(client).to(print).run, mode, "mode static")


def test_rows_wait_for_idle_partitions_no_longer_than_said(client: bowstring.Client) -> None:
    client.create_stream("clicks", schema=CLICKS, partitions=2)
    counted = source(client).event_time("at", idle="200ms").key_by("page").window(tumbling("10s"))
    seen: list[pa.RecordBatch] = []
    with counted.aggregate("count(*) AS n").to(seen.append, save_every="50ms"), client.producer("clicks") as producer:
        rows = [{"page": "/", "at": second * 1000, "x": 1} for second in (0, 5, 60)]
        producer.append(pa.RecordBatch.from_pylist(rows, schema=CLICKS), partition=0)
        # Partition 1 has no row, and after a while nobody has one.
        wait_until(lambda: bool(seen))
    assert [batch["n"].to_pylist() for batch in seen] == [[2]]


def test_stop_does_not_wait_for_room_and_the_next_run_hands_over(client: bowstring.Client, tmp_path: Path) -> None:
    client.create_stream("clicks", schema=X)
    client.create_stream("results", schema=X, max_buffered_batches=2)
    client.subscribe("results", "nobody")
    job = above(client).to("results", state=str(tmp_path), save_every="10ms", complete=False)
    with job:
        for value in range(1, 41):
            append(client, value)
            time.sleep(0.01)
        began = time.monotonic()
        assert job.stop(30)
        assert time.monotonic() - began < 20
    with client.iterator("results", subscription="nobody", timeout=30) as iterator, job:
        found: list[int] = []
        while len(found) < 40:
            found += next(iterator)["x"].to_pylist()
    assert found == list(range(1, 41))


def test_results_go_to_a_stream_with_options_of_its_own(client: bowstring.Client) -> None:
    client.create_stream("clicks", schema=X)
    append(client, 1, 2)
    client.complete_stream("clicks")
    client.create_stream("results", partitions=3, max_buffered_batches=7)
    above(client).to("results").run()
    assert numbers(client) == [1, 2]
    client.create_stream("shown", visibility="immediate")
    refused(above(client).to("shown").run, "visibility is immediate")
    client.create_stream("other", schema=pa.schema([("y", pa.int64())]))
    refused(above(client).to("other").run, "columns x: int64", "y: int64", "map them")
    refused(lambda: above(client).to("clicks"), "never end")


def test_what_functions_return_is_what_their_schema_says(client: bowstring.Client) -> None:
    client.create_stream("clicks", schema=X)
    names = ["good", *"abcd"]
    for name in names:
        client.subscribe("clicks", name)
    append(client, 1, 2)
    client.complete_stream("clicks")
    schema = pa.schema([("u", pa.int64()), ("v", pa.int64())])
    seen: list[dict[str, Any]] = []

    def run(result: dict[str, Any]) -> None:
        subscription = client.subscription("clicks", names.pop())
        begun = bowstring.flow(subscription).map(lambda _: result, schema=schema).filter("u = 1")
        begun.to(lambda batch: seen.extend(batch.to_pylist())).run()

    run({"v": [100.0], "u": [1]})
    assert seen == [{"u": 1, "v": 100}] * 2
    for wrong in [{"u": ["one"], "v": [1]}, {"u": [1]}, {"u": [1], "v": [2.5]}, {"u": [1], "v": [1], "w": [1]}]:
        refused(lambda wrong=wrong: run(wrong), "a function returned columns", "u: int64, v: int64")


def test_a_job_runs_again_after_it_was_stopped(client: bowstring.Client) -> None:
    client.create_stream("clicks", schema=X)
    seen: list[int] = []
    job = above(client).to(lambda batch: seen.extend(batch["x"].to_pylist()), save_every="10ms")
    for value in range(1, 4):
        with job:
            append(client, value)
            wait_until(lambda value=value: lag(client) == 0 and len(seen) == value)
            refused(job.start, "runs already")
    append(client, 4)
    client.complete_stream("clicks")
    job.run()
    assert seen == [1, 2, 3, 4]


def test_a_stream_that_ends_without_a_batch_ends_the_output(client: bowstring.Client) -> None:
    client.create_stream("clicks")
    client.complete_stream("clicks")
    above(client).to("results").run()
    assert client.describe_stream("results")["state"] == "completed"


def test_what_others_have_acked_is_missed_in_every_partition(client: bowstring.Client, tmp_path: Path) -> None:
    client.create_stream("clicks", schema=X, partitions=2)
    job = above(client).to("results", state=str(tmp_path), save_every="10ms", complete=False)
    with job:
        append(client, 1, partition=0)
        wait_until(lambda: lag(client) == 0)
    append(client, 2, partition=1)
    client.ack("clicks", "flow", {1: 1})
    refused(job.run, "acked partition 1 up to 1", "before 0", "seek it to 0")


def test_why_a_flow_has_no_results_is_said_to_who_waits_for_them(client: bowstring.Client) -> None:
    client.create_stream("clicks", schema=X)
    append(client, 0)
    with (
        pytest.raises(bowstring.QueryFailed),
        source(client).map("8 / x AS x").to("results"),
        client.iterator("results", subscription=None, timeout=1) as iterator,
    ):
        next(iterator)


def test_a_flow_waits_for_its_stream(client: bowstring.Client) -> None:
    job = bowstring.flow(client.subscription("results", "flow")).filter("x > 1").to("last").start()
    client.create_stream("clicks", schema=X)
    append(client, 1, 2)
    client.complete_stream("clicks")
    above(client).to("results").run()
    assert job.wait(30)
    assert numbers(client, "last") == [2]


def test_a_function_is_not_called_again_after_a_clean_end(client: bowstring.Client, tmp_path: Path) -> None:
    client.create_stream("clicks", schema=X)
    append(client, 1)
    client.complete_stream("clicks")
    seen: list[int] = []
    for _ in range(3):
        above(client).to(lambda batch: seen.extend(batch["x"].to_pylist()), state=str(tmp_path)).run()
    assert seen == [1]


def test_batches_that_come_again_are_acked_again(client: bowstring.Client, tmp_path: Path) -> None:
    client.create_stream("clicks", schema=X)
    with above(client).to("results", state=str(tmp_path), save_every="10ms", complete=False):
        append(client, 1, 2, 3)
        wait_until(lambda: lag(client) == 0)
        client.seek("clicks", "flow", "earliest")
        wait_until(lambda: lag(client) == 0)
    assert numbers(client) == [1, 2, 3]


def test_a_sum_beyond_its_type_is_an_error_that_says_what_to_do(client: bowstring.Client) -> None:
    client.create_stream("s", max_buffered_batches=100)
    with client.producer("s") as producer:
        producer.append(pa.record_batch({"x": pa.array([2**63 - 1, 1], pa.int64())}))
        producer.complete()
    got: list[pa.RecordBatch] = []
    flow = bowstring.flow(client.subscription("s", "f"))
    with pytest.raises(bowstring.QueryFailed, match=r"a sum is outside of Int64: sum a wider type"):
        flow.aggregate("sum(x) AS s").to(got.append).run()
    assert not got
    flow.aggregate("sum(CAST(x AS DECIMAL(38, 0))) AS s").to(got.append).run()
    assert [int(row["s"]) for batch in got for row in batch.to_pylist()] == [2**63]


def test_what_makes_no_sense_is_refused_where_it_is_said(client: bowstring.Client) -> None:
    fill(client, 1, batches=1)
    begun = source(client)
    refused(lambda: begun.key_by("page").to(print), "without aggregate, reduce or join")
    refused(lambda: begun.late_to("late").to(print), "without aggregate, reduce or join")
    refused(lambda: begun.to(None), "to a function", "None")
    refused(lambda: begun.to(print, memory_bytes_max="1GB"), "number of bytes", "1GB")
    refused(lambda: begun.to(print, memory_bytes_max=0), "from 1")
    refused(lambda: begun.window("10s"), "tumbling", "10s")
    refused(lambda: begun.filter(print), "SQL")
    refused(lambda: begun.aggregate(max), "SQL")
    refused(lambda: bowstring.flow("clicks"), "client.subscription")
    refused(begun.filter('now() > "at"').to(print).run, "now gives something else each time")

"""Flows: what they give is what DuckDB computes of all rows at once, also if the process is killed again and again."""

from __future__ import annotations

import contextlib
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import bowstring
from bowstring import flows
from bowstring.flows import session, sliding, tumbling

from .children import CLICKS
from .flowing import asked, clicks, fill, kill_until_it_ends, lag, refused, results, rows_of, source
from .support import wait_until

#: The same in DuckDB's words, of a table `clicks`.
AGGREGATES = "count(*) AS n, sum(x)::BIGINT AS total, max(x) - min(x) AS spread"
BATCH_SQL = {
    "tumbling": f"""
        SELECT time_bucket(INTERVAL 10 SECOND, "at", TIMESTAMPTZ '1970-01-01 00:00:00+00') AS window_start,
            window_start + INTERVAL 10 SECOND AS window_end, page, {AGGREGATES} FROM clicks GROUP BY ALL""",
    "sliding": f"""
        SELECT s.begins AS window_start, s.begins + INTERVAL 15 SECOND AS window_end, page, {AGGREGATES}
        FROM clicks JOIN (SELECT unnest(generate_series((SELECT time_bucket(INTERVAL 10 SECOND, min("at"),
            TIMESTAMPTZ '1970-01-01 00:00:00+00') - INTERVAL 1 MINUTE FROM clicks), (SELECT max("at") FROM clicks),
            INTERVAL 10 SECOND)) AS begins) AS s
            ON "at" >= s.begins AND "at" < s.begins + INTERVAL 15 SECOND GROUP BY ALL""",
    "session": f"""
        SELECT min("at") AS window_start, max("at") + INTERVAL 3 SECOND AS window_end, page, {AGGREGATES} FROM (
            SELECT *, sum(starts) OVER (PARTITION BY page ORDER BY "at", starts DESC ROWS UNBOUNDED PRECEDING) AS number
            FROM (
                SELECT *, CASE WHEN "at" - lag("at") OVER (PARTITION BY page ORDER BY "at") < INTERVAL 3 SECOND
                    THEN 0 ELSE 1 END AS starts FROM clicks)) GROUP BY page, number""",
}


@pytest.mark.parametrize("kind", ["tumbling", "sliding", "session"])
def test_a_flow_that_is_killed_again_and_again_has_the_results_of_a_batch_job(
    client: bowstring.Client, tmp_path: Path, kind: str
) -> None:
    """Promise: a consumer that stores its offset with its result is exactly once."""
    rows = fill(client, 7, batches=300)
    kill_until_it_ends(random.Random(kind), "flow", client.url, str(tmp_path / "state"), kind)
    expected = asked(rows, BATCH_SQL[kind].replace("FROM clicks", "FROM (SELECT * FROM clicks WHERE x >= 0)"))
    assert rows_of(results(client)) == expected
    assert "late" not in [one["stream"] for one in client.list_streams() if one.get("rows", 0)]


@pytest.mark.parametrize("kind", ["tumbling", "sliding", "session"])
def test_a_flow_in_memory_has_the_results_of_a_batch_job(client: bowstring.Client, kind: str) -> None:
    rows = fill(client, 1)
    window = {"tumbling": tumbling("10s"), "sliding": sliding("15s", "10s"), "session": session(3)}[kind]
    grouped = source(client).event_time("at", lateness="30s").key_by("page").window(window)
    grouped.aggregate(flows.count().alias("n"), flows.sum("x").alias("total"), "max(x) - min(x) AS spread").to(
        "results"
    ).run()
    assert rows_of(results(client)) == asked(rows, BATCH_SQL[kind])


def test_rows_that_are_too_late_go_aside_and_say_how_late_they_are(client: bowstring.Client) -> None:
    rows = fill(client, 2, batches=100)
    counted = (
        source(client).event_time("at", lateness="1s").key_by("page").window(tumbling("2s")).aggregate("count(*) AS n")
    )
    job = counted.late_to("late").to("results", save_every="10ms")
    job.run()
    late = results(client, "late")
    assert late.schema.names == ["page", "at", "x", "late_by_micros"]
    assert 0 < late.num_rows < rows.num_rows
    assert min(late["late_by_micros"].to_pylist()) > 0
    assert sum(results(client)["n"].to_pylist()) + late.num_rows == rows.num_rows
    assert job.late_rows == late.num_rows


def test_totals_say_what_has_changed(client: bowstring.Client) -> None:
    rows = fill(client, 3)
    source(client).key_by("page").aggregate(flows.count().alias("n"), flows.avg("x").alias("mean")).to(
        "results", save_every=0.0
    ).run()
    found = results(client)
    assert found.num_rows > 4, "each page once at least, and again when it has changed"
    last = {row["page"]: (row["n"], row["mean"]) for row in found.to_pylist()}
    expected = asked(rows, "SELECT page, count(*) AS n, avg(x) AS mean FROM clicks GROUP BY page")
    assert {page: (n, pytest.approx(mean)) for page, n, mean in expected} == last


def test_rows_are_filtered_and_computed_by_expressions_and_functions(client: bowstring.Client) -> None:
    rows = fill(client, 4)

    def doubled(batch: pa.RecordBatch) -> dict[str, Any]:
        return {"page": batch["PAGE"], "y": [None if x is None else 2 * x for x in batch["x"].to_pylist()]}

    def halves(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        middle = batch.num_rows // 2
        return [batch.slice(0, middle), batch.slice(middle)]

    begun = source(client).filter("page LIKE '/b%'").map('upper(page) AS "PAGE"', "x")
    schema = pa.schema([("page", pa.string()), ("y", pa.int64())])
    begun.map(doubled, schema=schema).flat_map(halves).filter("y > 10").to("results").run()
    assert rows_of(results(client)) == asked(
        rows, "SELECT upper(page) AS page, 2 * x AS y FROM clicks WHERE page LIKE '/b%' AND x > 5"
    )


def test_results_go_through_steps_and_to_a_function(client: bowstring.Client) -> None:
    rows = fill(client, 5)
    seen: list[pa.RecordBatch] = []
    counted = (
        source(client).event_time("at", lateness="30s").key_by("page").window(tumbling("1m")).aggregate("count(*) AS n")
    )
    counted.filter("n > 3").map("page", "n * 10 AS tens").to(seen.append).run()
    sql = """SELECT page, count(*) * 10 AS tens FROM clicks
        GROUP BY time_bucket(INTERVAL 1 MINUTE, "at", TIMESTAMPTZ '1970-01-01 00:00:00+00'), page HAVING count(*) > 3"""
    assert rows_of(pa.Table.from_batches(seen)) == asked(rows, sql)


def test_printing_shows_a_row_per_line(client: bowstring.Client, capsys: pytest.CaptureFixture[str]) -> None:
    fill(client, 6, batches=2)
    source(client).key_by().aggregate("count(*) AS n").to(print, save_every=60).run()
    assert capsys.readouterr().out == "{'n': 100}\n"


def test_what_cannot_be_is_said_before_a_batch_is_read(client: bowstring.Client) -> None:
    fill(client, 8, batches=1)
    begun = source(client)
    refused(begun.filter("nobody > 1").to(print).run, "nobody")
    refused(begun.filter("page +").to(print).run)
    refused(begun.map("count(*)").to(print).run, "many rows")
    refused(begun.key_by("page").aggregate("sum(page)").to(print).run, "sum")
    refused(begun.key_by("page").aggregate().to(print).run, "without results")
    refused(begun.key_by("page").aggregate("count(*)").filter("m > 1").to(print).run, "m")
    refused(lambda: begun.window(tumbling("10s")).aggregate("count(*)"), "event_time")
    refused(begun.event_time("then").window(tumbling(1)).aggregate("count(*)").to(print).run, "then", "page, at, x")
    refused(begun.event_time("x").window(tumbling(1)).aggregate("count(*)").to(print).run, "timestamp")
    refused(lambda: begun.aggregate("count(*)").key_by("page"), "after aggregate")
    refused(lambda: begun.map("page", print), "map takes")
    refused(begun.map(lambda batch: 1 / (batch.num_rows * 0)).to(print).run, "schema=", "ZeroDivisionError")
    for duration in ["10", "10 weeks", -1, "-1s", float("nan"), None]:
        refused(lambda duration=duration: tumbling(duration), "size")
    assert lag(client) == 1, "nothing was acked"


def test_a_row_without_a_value_ends_a_flow_and_loses_nothing(client: bowstring.Client, tmp_path: Path) -> None:
    client.create_stream("clicks", schema=pa.schema([("x", pa.int64())]))
    with client.producer("clicks") as producer:
        for x in [1, 2, 0, 4]:
            producer.append(pa.record_batch({"x": [x]}))
        producer.complete()
    failing = source(client).map("8 / x AS y").to("results", state=str(tmp_path), save_every=0.0)
    with pytest.raises(bowstring.QueryFailed):
        failing.run()
    mended = source(client).map("8 / nullif(x, 0) AS y").to("results", state=str(tmp_path / "new"))
    mended.run()
    assert sorted(results(client)["y"].to_pylist(), key=repr) == [2, 4, 8, None]


def test_a_job_is_stopped_and_goes_on(client: bowstring.Client, tmp_path: Path) -> None:
    client.create_stream("clicks", schema=CLICKS, partitions=2, max_buffered_batches=10_000)
    batches = list(clicks(random.Random(9), 60, 20))

    def job() -> flows.Job:
        counted = source(client).event_time("at", lateness="30s").key_by("page").window(tumbling("10s"))
        return counted.aggregate("count(*) AS n", "sum(x) AS total", "max(x) - min(x) AS spread").to(
            "results", state=str(tmp_path), save_every="10ms"
        )

    with client.producer("clicks") as producer:
        for part in range(3):
            with job() as running:
                for partition, batch in batches[20 * part : 20 * part + 20]:
                    producer.append(batch, partition=partition)
                producer.flush()
                wait_until(lambda: lag(client) == 0)
                assert running.late_rows == 0
                assert running.watermark_micros is not None
                with pytest.raises(bowstring.Unavailable, match="another flow has it open"):
                    job().run()
        producer.complete()
    job().run()
    assert rows_of(results(client)) == asked(
        pa.Table.from_batches([batch for _, batch in batches]), BATCH_SQL["tumbling"]
    )


def test_a_flow_that_has_come_to_the_end_changes_nothing_when_it_runs_again(
    client: bowstring.Client, tmp_path: Path
) -> None:
    rows = fill(client, 11, batches=4)
    counted = source(client).key_by("page").aggregate("count(*) AS n")
    job = counted.to("results", state=str(tmp_path))
    job.run()
    before = results(client)
    counted.to("results", state=str(tmp_path)).run()
    assert results(client) == before
    assert sum(before["n"].to_pylist()) == rows.num_rows


def test_of_two_copies_of_a_state_one_is_refused_and_nothing_comes_twice(
    client: bowstring.Client, tmp_path: Path
) -> None:
    client.create_stream("clicks", schema=pa.schema([("x", pa.int64())]))

    def job(directory: str) -> flows.Job:
        state = str(tmp_path / directory)
        return source(client).filter("x > 0").to("results", state=state, save_every="10ms", complete=False)

    appended = 1
    with client.producer("clicks") as producer:
        producer.append(pa.record_batch({"x": [1]}))
        with job("a"):
            wait_until(lambda: lag(client) == 0)
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        jobs = [job("a").start(), job("b").start()]

        def is_over() -> bool:
            nonlocal appended
            appended += 1
            producer.append(pa.record_batch({"x": [appended]}))
            return any(one.wait(0.05) for one in jobs)

        # Their results are of other batches each, or one begins when the other has acked something already.
        with pytest.raises((bowstring.Fenced, bowstring.InvalidArgument)):
            wait_until(is_over)
        producer.complete()
    for one in jobs:
        with contextlib.suppress(bowstring.Fenced, bowstring.InvalidArgument):
            one.wait(60)
    # Both may have fenced each other; one of the two states is the newer one.
    for directory in "ab":
        with contextlib.suppress(bowstring.InvalidArgument):
            job(directory).run()
    assert lag(client) == 0
    with client.iterator("results", subscription=None, follow=False) as iterator:
        found = pa.Table.from_batches(list(iterator))["x"].to_pylist()
    assert sorted(found) == list(range(1, appended + 1))


def test_keys_may_be_values_of_dictionaries(client: bowstring.Client) -> None:
    batch = pa.record_batch({"page": pa.array(["/", "/buy", None, "/"]).dictionary_encode()})
    client.create_stream("clicks", schema=batch.schema)
    with client.producer("clicks") as producer:
        producer.append(batch)
        producer.append(pa.record_batch({"page": pa.array(["/buy", "/help"]).dictionary_encode()}))
        producer.complete()
    source(client).key_by("page").aggregate("count(*) AS n").to("results", save_every=60).run()
    assert rows_of(results(client)) == sorted([("/", 2), ("/buy", 2), ("/help", 1), (None, 1)], key=repr)

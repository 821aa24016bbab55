"""Flows: results before a window is over and after, and functions that reduce rows of a key."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import bowstring
from bowstring.flows import session, sliding, tumbling

from .children import CLICKS
from .flowing import asked, fill, kill_until_it_ends, refused, results, rows_of, source
from .support import wait_until

_TUMBLING = """
    SELECT time_bucket(INTERVAL 10 SECOND, "at", TIMESTAMPTZ '1970-01-01 00:00:00+00') AS window_start,
        window_start + INTERVAL 10 SECOND AS window_end, page, {} FROM clicks GROUP BY ALL"""


def last_of_each(table: pa.Table) -> tuple[list[tuple[Any, ...]], dict[tuple[Any, ...], list[str]]]:
    """The last result of each window and key, and which results it had."""
    last: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    firings: dict[tuple[Any, ...], list[str]] = {}
    for row in table.to_pylist():
        key = (row["window_start"], row["window_end"], row["page"])
        firings.setdefault(key, []).append(row.pop("firing"))
        last[key] = tuple(row.values())
    return sorted(last.values(), key=repr), firings


def test_the_last_result_of_each_window_is_that_of_a_batch_job_whatever_is_killed(
    client: bowstring.Client, tmp_path: Path
) -> None:
    rows = fill(client, 11, batches=300)
    # Each save has results, and nobody reads them before the end.
    client.create_stream("results", max_buffered_batches=10_000)
    kill_until_it_ends(random.Random("fire"), "fire", client.url, str(tmp_path / "state"))
    last, firings = last_of_each(results(client))
    assert last == asked(rows, _TUMBLING.format("count(*) AS n, sum(x)::BIGINT AS total"))
    assert {name for names in firings.values() for name in names} == {"early", "on_time", "late"}
    for names in firings.values():
        assert names == sorted(names, key=["early", "on_time", "late"].index), names
        assert names.count("on_time") <= 1


def test_a_window_has_results_before_it_is_over(client: bowstring.Client) -> None:
    client.create_stream("clicks", schema=CLICKS, partitions=2)
    seen: list[dict[str, Any]] = []
    windows = source(client).event_time("at").key_by("page").window(session("1h"), early="50ms")
    job = windows.aggregate("count(*) AS n").to(lambda batch: seen.extend(batch.to_pylist()), save_every="10ms")
    row = {"page": ["/"], "at": [0], "x": [1]}
    with job, client.producer("clicks") as producer:
        for count in (1, 2):
            producer.append(pa.RecordBatch.from_pydict(row, schema=CLICKS), partition=0)
            wait_until(lambda count=count: [one["n"] for one in seen][-1:] == [count])
    assert [one["firing"] for one in seen] == ["early"] * len(seen)
    assert job.watermark_micros is None, "nothing is known of the other partition"


def test_rows_that_are_too_late_for_late_results_go_aside(client: bowstring.Client) -> None:
    rows = fill(client, 12, batches=100)
    windows = source(client).event_time("at").key_by("page").window(sliding("4s", "2s"), late="3s")
    job = windows.aggregate("count(*) AS n").late_to("late").to("results", save_every="10ms")
    job.run()
    late = results(client, "late")
    assert 0 < late.num_rows < rows.num_rows
    assert min(late["late_by_micros"].to_pylist()) > 3_000_000
    assert set(results(client)["firing"].to_pylist()) == {"on_time", "late"}


def test_a_flow_that_reduces_and_is_killed_has_the_results_of_a_batch_job(
    client: bowstring.Client, tmp_path: Path
) -> None:
    rows = fill(client, 13, batches=300)
    kill_until_it_ends(random.Random("reduce"), "reduce", client.url, str(tmp_path / "state"))
    sql = _TUMBLING.format('max("at") AS "at", sum(coalesce(x, 0))::BIGINT AS total')
    assert rows_of(results(client)) == asked(rows, sql)


def test_all_columns_but_the_keys_are_reduced(client: bowstring.Client) -> None:
    rows = fill(client, 14)

    def largest(left: pa.RecordBatch, right: pa.RecordBatch) -> pa.Table:
        assert left.schema.names == right.schema.names == ["at", "x"]
        # Null is less than anything.
        is_left = [pc.or_kleene(pc.is_null(right[name]), pc.greater(left[name], right[name])) for name in ("at", "x")]
        columns = [
            pc.if_else(pc.fill_null(chosen, False), left[name], right[name])
            for chosen, name in zip(is_left, ("at", "x"), strict=True)
        ]
        return pa.table(columns, names=["at", "x"])

    source(client).key_by("page").reduce(largest).to("results", save_every="1h").run()
    assert rows_of(results(client)) == asked(
        rows, 'SELECT page, max("at") AS "at", max(x) AS x FROM clicks GROUP BY page'
    )


def test_what_the_function_raises_ends_the_job_and_loses_nothing(client: bowstring.Client, tmp_path: Path) -> None:
    rows = fill(client, 15)
    calls = 0

    def total(left: pa.RecordBatch, right: pa.RecordBatch) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        # It may ask the job that it is of.
        assert job.late_rows == 0
        if calls == 40:
            raise ZeroDivisionError("by the function")
        return {"x": pc.add(left["x"], right["x"])}

    reduced = source(client).key_by("page").reduce(total, "coalesce(x, 0) AS x")
    job = reduced.to("results", state=str(tmp_path / "state"), save_every="1h")
    with pytest.raises(ZeroDivisionError, match="by the function"):
        job.run()
    job.run()
    assert rows_of(results(client)) == asked(
        rows, "SELECT page, sum(coalesce(x, 0))::BIGINT AS x FROM clicks GROUP BY page"
    )


def test_what_cannot_be_is_refused(client: bowstring.Client) -> None:
    fill(client, 16, batches=4)
    timed = source(client).event_time("at").key_by("page")
    refused(lambda: timed.window(tumbling("1s"), early="soon"), "early", "'soon'")
    refused(lambda: timed.window(tumbling("1s"), late="-1s"), "late", "'-1s'")
    refused(lambda: timed.reduce("x"), "function of two record batches")  # type: ignore[arg-type]
    refused(lambda: timed.reduce(lambda left, _: left).reduce(lambda left, _: left), "after aggregate, reduce or join")
    refused(lambda: source(client).window(tumbling("1s")).reduce(lambda left, _: left), "event_time")
    refused(lambda: timed.reduce(lambda left, _: left, "nothing").to("r").run(), "nothing")
    other = timed.reduce(lambda left, _: left.select(["x"]), "x", '"at"').to("r")
    refused(other.run, "x: int64", "at: timestamp")
    fewer = timed.reduce(lambda left, _: left.slice(1), "x").to("fewer")
    with pytest.raises(bowstring.QueryFailed, match="one row for each pair"):
        fewer.run()


def test_a_state_is_of_one_function_and_of_one_kind_of_firings(client: bowstring.Client, tmp_path: Path) -> None:
    fill(client, 17, batches=4)
    state = str(tmp_path / "state")
    timed = source(client).event_time("at").key_by("page")
    timed.window(tumbling("1s")).aggregate("count(*) AS n").to("results", state=state).run()
    other = timed.window(tumbling("1s"), late="1s").aggregate("count(*) AS n").to("results", state=state)
    with pytest.raises(bowstring.BowstringError, match="late_micros=1000000"):
        other.run()

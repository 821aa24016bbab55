"""Workers whose output is exactly once: killed at every point, hanging, refused, and in one another's way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest

import bowstring
from bowstring import outputs
from bowstring.outputs import Output, tables_of
from bowstring.working import Worker

from .support import Child, Served, ids, numbered, wait_until


def fill(client: bowstring.Client, batches: int, partitions: int = 1, *, complete: bool = True, **output: Any) -> None:
    client.create_stream("numbers", partitions=partitions, max_buffered_batches=2000, if_not_exists=True)
    client.create_stream("tens", **{"max_buffered_batches": 20_000, "if_not_exists": True, **output})
    client.subscribe("numbers", "team", mode="shared")
    with client.producer("numbers") as producer:
        for number in range(batches):
            producer.append(numbered(number * 10), partition=number % partitions)
        if complete:
            producer.complete()


def tenfold(batch: pa.RecordBatch) -> pa.Table:
    first = batch["id"][0].as_py()
    return pa.Table.from_batches([numbered(first * 10 + 10 * number) for number in range(10)])


def worker(client: bowstring.Client, fn: Any = tenfold, **options: Any) -> Worker:
    return Worker(client, "numbers", fn, **{"subscription": "team", "output": "tens", **options})


def output_ids(client: bowstring.Client, output: str = "tens") -> list[int]:
    return sorted(ids(client.iterator(output, subscription=None, follow=False, timeout=60)))


def lag(client: bowstring.Client) -> int:
    return client.lag("numbers")["team"].total.batches


def test_several_workers_give_each_batchs_results_once(client: bowstring.Client) -> None:
    fill(client, 60, 3)
    workers = [worker(client) for _ in range(5)]
    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(Worker.run, workers)) == [True] * 5
    assert output_ids(client) == list(range(6000))
    done = [one.done() for one in workers]
    assert sum(one.batches for one in done) == 60
    assert sum(one.rows for one in done) == 600
    assert sum(one.failures + one.repeated for one in done) == 0
    assert not any(one.busy for one in done)
    assert all(one.busy_seconds > 0 for one in done if one.batches)


@pytest.mark.parametrize("point", ["append", "commit", "ack"])
def test_a_worker_killed_at_any_point_loses_and_doubles_nothing(
    client: bowstring.Client, start_child: Callable[..., Child], point: str
) -> None:
    fill(client, 20, complete=False)
    child = start_child("work", client.url, "numbers", "tens", 60, point, 70)
    assert [child.line(), child.line()] == ["ready", "hangs"]
    # It works in order, alone: what came before is there, and at the last point its own, too.
    expected = {"append": 700, "commit": 700, "ack": 800}[point]
    assert output_ids(client) == list(range(expected))
    child.kill()
    client.complete_stream("numbers")
    heir = worker(client)
    assert heir.run()
    assert output_ids(client) == list(range(2000))
    assert heir.done().repeated == (1 if point == "ack" else 0)
    assert lag(client) == 0


@pytest.mark.parametrize("point", ["append", "commit", "ack"])
def test_a_zombie_whose_batch_went_to_another_changes_nothing(
    client: bowstring.Client, start_child: Callable[..., Child], point: str
) -> None:
    fill(client, 20, complete=False)
    zombie = start_child("work", client.url, "numbers", "tens", 1, point, 70)
    assert [zombie.line(), zombie.line()] == ["ready", "hangs"]
    other = worker(client)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(other.run)
        wait_until(lambda: lag(client) == 0)
        assert output_ids(client) == list(range(2000))
        # Now it goes on where it hung, and then to the end.
        zombie.say("go on")
        client.complete_stream("numbers")
        assert working.result(timeout=60)
    assert zombie.line().startswith("end")
    assert output_ids(client) == list(range(2000))
    assert lag(client) == 0


def test_two_workers_with_the_same_batch_commit_it_once_whoever_is_first(client: bowstring.Client) -> None:
    fill(client, 1)
    output = Output(client, "numbers", "team", "tens")
    with client.iterator("numbers", subscription="team", mode="shared", auto_ack=False, timeout=60) as iterator:
        handle = next(iterator.handles())
        late, early = Output(client, "numbers", "team", "tens"), output
        assert early.begin(handle)
        assert late.begin(handle)
        # Both stage; the abort of one ends what the other has staged, who learns it by an error and not by silence.
        late.abort(handle)
        assert early.begin(handle)
        assert early.commit(handle, [numbered(0)])
        assert not late.commit(handle, [numbered(0)])
        assert not late.begin(handle)
        late.abort(handle)
    assert output_ids(client) == list(range(10))


def test_an_abort_under_way_is_an_error_for_the_other_who_has_the_batch(
    client: bowstring.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(client, 3)
    commits = bowstring.Client.commit_epoch
    interrupted = []

    def commit(self: bowstring.Client, *arguments: Any) -> str:
        if not interrupted:
            # What a zombie of this batch does whose function fails just now.
            interrupted.append(self.abort_epoch(*arguments[:4]))
        return commits(self, *arguments)

    monkeypatch.setattr(bowstring.Client, "commit_epoch", commit)
    own = worker(client)
    assert own.run()
    assert interrupted == ["aborted"]
    assert own.done().failures == 0, "the batch came again, and that is no failure of it"
    assert output_ids(client) == list(range(300))


def test_a_batch_waits_until_the_one_that_had_its_slot_is_done(
    client: bowstring.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "_SLOTS_MAX", 2)
    fill(client, 9, complete=False)
    output = Output(client, "numbers", "team", "tens")
    with client.iterator("numbers", subscription="team", mode="shared", auto_ack=False, timeout=60) as iterator:
        handles = iterator.handles()
        held = [next(handles) for _ in range(4)]
        assert [output.has_turn(one) for one in held] == [True, True, False, False]
        held[1].ack()
        iterator.flush()
        assert not output.has_turn(held[2]), "the cursor stands before the first"
        held[0].ack()
        iterator.flush()
        assert [output.has_turn(one) for one in held[2:]] == [True, True]
        for one in held[2:]:
            one.release()
    assert output_ids(client) == []


def test_workers_that_may_not_begin_yet_come_to_an_end(
    client: bowstring.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "_SLOTS_MAX", 1)
    fill(client, 30)
    failed = []

    def fails_once(batch: pa.RecordBatch) -> pa.Table:
        if batch["id"][0].as_py() == 0 and not failed:
            failed.append(True)
            raise ValueError("not yet")
        return tenfold(batch)

    workers = [worker(client, fails_once) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(Worker.run, workers)) == [True] * 4
    assert failed
    assert output_ids(client) == list(range(3000))


def test_what_fails_leaves_nothing_and_goes_to_the_dead_letters(client: bowstring.Client) -> None:
    fill(client, 5)

    def fails(batch: pa.RecordBatch) -> Any:
        first = batch["id"][0].as_py()
        if first == 10:
            raise ValueError("ten")
        # Another schema than the output's; and no table at all.
        return {20: pa.table({"other": [1]}), 30: "text"}.get(first, tenfold(batch))

    own = worker(client, fails)
    assert own.run()
    assert own.done().failures == 15, "five deliveries of each"
    assert output_ids(client) == [*range(100), *range(400, 500)]
    letters = client.iterator("numbers.dead-letters", subscription=None, follow=False, timeout=60)
    reasons = {row["id"]: row["bowstring_reason"] for batch in letters for row in batch.to_pylist()}
    assert sorted(reasons) == list(range(10, 40))
    assert reasons[10] == "ValueError: ten"
    assert "SchemaMismatch" in reasons[20]
    assert reasons[30].startswith("TypeError: the function returned a str")
    (found,) = (one for one in client.list_streams() if one["stream"] == "tens")
    assert found["buffered_batches"] == 20, "nothing staged is left"


def test_results_may_be_nothing_or_several_and_the_function_a_class(client: bowstring.Client) -> None:
    fill(client, 6)
    made = []

    class Model:
        def __init__(self, name: str) -> None:
            made.append(name)

        def __call__(self, batch: pa.RecordBatch) -> Any:
            first = batch["id"][0].as_py()
            if first < 20:
                return None
            if first < 40:
                return batch.schema.empty_table()
            return (one for one in [numbered(first), [numbered(first + 100)]])

    own = worker(client, Model, fn_constructor_kwargs={"name": "small"})
    assert own.run()
    assert made == ["small"]
    assert own.done().batches == 6
    assert output_ids(client) == [*range(40, 60), *range(140, 160)]
    assert tables_of(None) == []


def test_a_stopped_worker_finishes_its_batch_and_leaves_the_rest(client: bowstring.Client) -> None:
    fill(client, 10, complete=False)
    own = worker(client, lambda batch: own.stop() if batch["id"][0].as_py() == 30 else tenfold(batch))
    assert not own.run()
    assert lag(client) == 6
    client.complete_stream("numbers")
    with client.iterator("numbers", subscription="team", mode="shared", timeout=60) as iterator:
        deliveries = [handle.delivery for handle in iterator.handles() if handle.ack() is None]
    # What was on its way to the worker when it left counts as delivered; it has had none of the others.
    assert deliveries[0] in (1, 2)
    assert deliveries[1:] == [1] * 5


def test_rows_of_the_output_go_where_their_key_says(client: bowstring.Client) -> None:
    fill(client, 20)
    client.create_stream("keyed", partitions=4, max_buffered_batches=2000)

    def keyed(batch: pa.RecordBatch) -> Any:
        table = pa.Table.from_batches([batch])
        table = table.append_column("key", pa.array([one % 7 for one in batch["id"].to_pylist()]))
        # A table with a batch per row, and one record batch.
        return [pa.Table.from_batches(table.to_batches(max_chunksize=1)), table.combine_chunks().to_batches()[0]]

    assert worker(client, keyed, output="keyed", output_routing="hash(key)").run()
    places: dict[int, set[int]] = {}
    found = []
    for one in client.iterator("keyed", subscription=None, follow=False, timeout=60).batches_with_offsets():
        found += one.batch["id"].to_pylist()
        for key in one.batch["key"].to_pylist():
            places.setdefault(key, set()).add(one.partition)
    assert sorted(found) == sorted([*range(200), *range(200)])
    assert [len(place) for place in places.values()] == [1] * 7
    assert len(set.union(*places.values())) > 1


def test_names_may_be_as_long_as_names_are(client: bowstring.Client) -> None:
    stream, team = "n" * 200, "t" * 200
    client.create_stream(stream)
    client.subscribe(stream, team, mode="shared")
    with client.producer(stream) as producer:
        producer.append(numbered(0))
        producer.complete()
    assert Worker(client, stream, lambda batch: batch, subscription=team, output="out").run()
    assert output_ids(client, "out") == list(range(10))


def test_without_an_output_it_acks_what_it_has_done(client: bowstring.Client) -> None:
    fill(client, 10)
    seen: list[int] = []
    own = worker(client, lambda batch: seen.extend(ids([batch])), output=None)
    assert own.run()
    assert seen == list(range(100))
    assert lag(client) == 0


def test_a_stream_made_anew_or_a_subscription_has_results_of_its_own(client: bowstring.Client) -> None:
    for round_ in range(1, 3):
        fill(client, 2)
        assert worker(client).run()
        assert len(output_ids(client)) == 200 * round_
        client.delete_stream("numbers")
    fill(client, 2, complete=False)
    client.create_stream("again", max_buffered_batches=1000)
    for round_ in range(1, 3):
        client.subscribe("numbers", "other", mode="shared")
        own = worker(client, lambda batch: batch, subscription="other", output="again")
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(own.run)
            wait_until(lambda own=own: own.done().batches == 2)
            own.stop()
            assert not working.result(timeout=60)
        assert len(output_ids(client, "again")) == 20 * round_
        # The team that has not read them keeps the batches.
        client.unsubscribe("numbers", "other")


def test_the_results_stay_once_though_the_coordinator_is_killed(
    serve: Callable[..., Served], start_child: Callable[..., Child], tmp_path: Any
) -> None:
    served = serve("--data-dir", str(tmp_path))
    client = bowstring.connect(served.url)
    fill(client, 20, complete=False)
    child = start_child("work", served.url, "numbers", "tens", 60, "ack", 70)
    assert [child.line(), child.line()] == ["ready", "hangs"]
    served.child.kill()
    child.kill()
    again = serve("--data-dir", str(tmp_path), "--listen", served.address)
    assert again.address == served.address
    client.complete_stream("numbers")
    heir = worker(client)
    assert heir.run()
    assert output_ids(client) == list(range(2000))
    assert heir.done().repeated >= 1


def test_a_worker_waits_for_a_coordinator_that_is_away(serve: Callable[..., Served], tmp_path: Any) -> None:
    served = serve("--data-dir", str(tmp_path))
    fill(bowstring.connect(served.url), 20, complete=False)
    client = bowstring.connect(served.url, retry_deadline=0.5)

    def ends_it_at_100(batch: pa.RecordBatch) -> pa.Table:
        if batch["id"][0].as_py() == 100 and served.child.process.poll() is None:
            served.child.kill()
        return tenfold(batch)

    own = worker(client, ends_it_at_100)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(own.run)
        wait_until(lambda: served.child.process.poll() is not None)
        with pytest.raises(bowstring.Unavailable):
            client.describe_stream("numbers")
        serve("--data-dir", str(tmp_path), "--listen", served.address)
        bowstring.connect(served.url).complete_stream("numbers")
        assert working.result(timeout=60)
    assert output_ids(client) == list(range(2000))


def test_what_cannot_be_exactly_once_is_refused(client: bowstring.Client) -> None:
    fill(client, 2)
    for name, sharing in (("keys", bowstring.Sharing(keys=["id"])), ("bisect", bowstring.Sharing(bisect=True))):
        with pytest.raises(bowstring.InvalidArgument, match=name):
            worker(client, subscription=name, sharing=sharing).run()
    client.subscribe("numbers", "alone")
    with pytest.raises(bowstring.InvalidArgument):
        worker(client, subscription="alone").run()
    client.create_stream("hasty", visibility="immediate")
    with pytest.raises(bowstring.InvalidArgument, match="immediate"):
        worker(client, output="hasty").run()
    one = {"max_rows": 4, "prefetch_batches": 1, "max_in_flight_batches": 1, "auto_ack": False, "timeout": 60}
    with client.iterator("numbers", subscription="team", **one) as iterator:
        assert next(iterator.handles()).rows == (0, 4)
        with pytest.raises(bowstring.InvalidArgument, match="max_rows"):
            worker(client).run()
    client.complete_stream("tens")
    client.subscribe("numbers", "late", mode="shared")
    with pytest.raises(bowstring.StreamEnded):
        worker(client, subscription="late").run()

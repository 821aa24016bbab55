"""Pools of Ray actors: they follow the lag, leave cleanly, are replaced, and each batch's results come once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

import bowstring
from bowstring.ray import ConsumerPool
from bowstring.ray.scaling import Rest, Scaling

from ..support import Served, ids, numbered, wait_until

pytestmark = pytest.mark.usefixtures("ray_session")

#: Actors are numbers here: 40 of them fit in the 8 slots of the tests' Ray.
SMALL = {"num_cpus": 0.2, "interval": 0.1, "lease": 2.0}


@pytest.fixture(autouse=True)
def _no_actor_is_left() -> Iterator[None]:
    yield
    wait_until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])


def fill(client: bowstring.Client, batches: int, partitions: int = 2, *, complete: bool = True) -> None:
    client.create_stream("numbers", partitions=partitions, max_buffered_batches=2000, if_not_exists=True)
    client.create_stream("copies", max_buffered_batches=2000, if_not_exists=True)
    with client.producer("numbers") as producer:
        for number in range(batches):
            producer.append(numbered(number * 10), partition=number % partitions)
        if complete:
            producer.complete()


def pool_of(client: bowstring.Client, fn: Any, **options: Any) -> ConsumerPool:
    return ConsumerPool(fn, "numbers", **{"client": client, "output": "copies", **SMALL, **options})


def copies(client: bowstring.Client) -> list[int]:
    return sorted(ids(client.iterator("copies", subscription=None, follow=False, timeout=60)))


def gate(path: Path) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """A function that takes as long as the path exists."""

    def work(batch: pa.RecordBatch) -> pa.RecordBatch:
        while path.exists():
            time.sleep(0.02)  # As a model that takes its time.
        return batch

    return work


def test_a_lag_asks_for_more_at_once_and_for_fewer_after_a_while() -> None:
    scaling = Scaling(1, 10, 4, 30.0)
    assert scaling.size(0, 0) == 1
    assert scaling.size(1, 5) == 2
    assert scaling.size(2, 1000) == 10
    assert scaling.size(3, None) == 10, "nobody knows"
    assert [scaling.size(now, 0) for now in (4, 20, 32)] == [10, 10, 10]
    assert scaling.size(33, 8) == 2, "30 seconds after it was last so much"
    assert [scaling.size(now, 0) for now in (50, 63, 64)] == [2, 2, 1]
    assert Scaling(0, 1, 4, 0.0).size(0, 0) == 0
    for wrong in ((2, 1, 4, 1), (-1, 1, 4, 1), (0, 0, 4, 1), (0, 1, 0, 1), (0, 1, 1, -1)):
        with pytest.raises(bowstring.InvalidArgument):
            Scaling(*wrong)


def test_those_that_die_without_having_done_anything_are_replaced_later_each_time() -> None:
    rest = Rest(1.0)
    assert rest.is_over(0.0)
    for now, until in ((10.0, 11.0), (11.0, 13.0), (13.0, 17.0)):
        rest.extend(now)
        assert not rest.is_over(until - 0.1)
        assert rest.is_over(until)
    for now in range(20, 2000):
        rest.extend(now)
    assert not rest.is_over(1999 + 59)
    assert rest.is_over(1999 + 60)
    rest.end()
    assert rest.is_over(2000)


def test_a_pool_grows_beyond_the_partitions_and_shrinks(client: bowstring.Client, tmp_path: Path) -> None:
    fill(client, 0, complete=False)
    gates = tmp_path / "closed"
    gates.touch()
    # Nobody dies here: a lease that lasts, so that no batch comes twice on a busy machine.
    with pool_of(client, gate(gates), max_consumers=6, target_lag=2, shrink_after=0.5, lease=60.0) as pool:
        assert pool.size <= 1
        fill(client, 40, complete=False)
        wait_until(lambda: pool.stats().busy == 6)
        assert pool.size == 6
        gates.unlink()
        wait_until(lambda: pool.stats().batches >= 40)
        wait_until(lambda: (pool.size, pool.stats().leaving) == (1, 0))
        stats = pool.stats()
        assert (stats.started, stats.died, stats.failures, stats.lag) == (6, 0, 0, 0)
        assert stats.rows == 400
        history = pool.history()
        assert max(moment.size for moment in history) == 6
        assert max(moment.lag or 0 for moment in history) == 40
        assert [moment.at for moment in history] == sorted(moment.at for moment in history)
        # And up again.
        fill(client, 4, complete=False)
        client.complete_stream("numbers")
        pool.join(60)
    assert copies(client) == sorted([*range(400), *range(40)])


def test_an_actor_killed_at_work_is_replaced_and_its_results_come_once(
    client: bowstring.Client, tmp_path: Path
) -> None:
    fill(client, 60)
    once = tmp_path / "killed"

    def dies_once(batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch["id"][0].as_py() in (100, 300):
            try:
                (once / str(batch["id"][0])).mkdir(parents=True)
            except FileExistsError:
                return batch
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

    with pool_of(client, dies_once, min_consumers=3, max_consumers=3) as pool:
        pool.join(90)
        assert pool.stats().died == 2
        assert pool.stats().started >= 4
    assert copies(client) == list(range(600))
    assert client.lag("numbers")["default"].total.batches == 0


def test_an_actor_killed_from_outside_between_commit_and_ack_doubles_nothing(
    client: bowstring.Client, tmp_path: Path
) -> None:
    fill(client, 30)
    told = tmp_path / "pid"

    def commits_and_hangs(batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch["id"][0].as_py() == 100 and not told.exists():
            commit = bowstring.Client.commit_epoch

            def hang(*arguments: Any) -> str:
                commit(*arguments)
                told.write_text(str(os.getpid()))
                time.sleep(300)  # Until it is killed.
                return "committed"

            bowstring.Client.commit_epoch = hang
        return batch

    with pool_of(client, commits_and_hangs, min_consumers=2, max_consumers=2) as pool:
        wait_until(lambda: told.exists() and told.read_text())
        os.kill(int(told.read_text()), signal.SIGKILL)
        pool.join(90)
        stats = pool.stats()
        assert stats.died == 1
        assert stats.repeated >= 1
    assert copies(client) == list(range(300))


def test_what_the_function_refuses_goes_to_the_dead_letters_with_the_reason(client: bowstring.Client) -> None:
    fill(client, 10)

    class Model:
        def __init__(self, poison: int) -> None:
            self.poison = poison

        def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
            if self.poison in batch["id"].to_pylist():
                raise ValueError(f"{self.poison} is poison")
            return batch

    sharing = bowstring.Sharing(max_deliveries=2)
    options = {"fn_constructor_kwargs": {"poison": 55}, "sharing": sharing, "max_consumers": 2}
    with pool_of(client, Model, **options) as pool:
        pool.join(60)
        assert pool.stats().failures == 2
    assert copies(client) == [*range(50), *range(60, 100)]
    letters = client.iterator("numbers.dead-letters", subscription=None, follow=False, timeout=60)
    assert {row["bowstring_reason"] for one in letters for row in one.to_pylist()} == {"ValueError: 55 is poison"}


def test_a_pool_begins_with_nobody_if_it_may_and_ends_all_the_same(client: bowstring.Client) -> None:
    fill(client, 0, complete=False)
    with pool_of(client, lambda batch: batch, min_consumers=0, shrink_after=0.0) as pool:
        wait_until(lambda: len(pool.history()) > 3)
        assert (pool.size, pool.stats().started) == (0, 0)
        with pytest.raises(bowstring.Timeout, match="not done"):
            pool.join(0.1)
        fill(client, 5, complete=False)
        wait_until(lambda: pool.stats().batches == 5)
        client.complete_stream("numbers")
        pool.join(60)
    assert copies(client) == list(range(50))


def test_who_has_no_room_stays_pending_and_keeps_nobody_from_working(client: bowstring.Client, tmp_path: Path) -> None:
    fill(client, 20)
    gates = tmp_path / "closed"
    gates.touch()
    options = {"min_consumers": 5, "max_consumers": 5, "num_cpus": 3, "target_lag": 1, "lease": 60.0}
    with pool_of(client, gate(gates), **options) as pool:
        wait_until(lambda: pool.stats().busy == 2)
        assert pool.stats().pending == 3, "two of 3 slots fit in 8"
        gates.unlink()
        pool.join(60)
        assert pool.stats().pending == 0
        assert pool.stats().died == 0
    assert copies(client) == list(range(200))


def test_a_stopped_pool_has_finished_what_it_had_and_another_goes_on(client: bowstring.Client, tmp_path: Path) -> None:
    fill(client, 40)
    gates = tmp_path / "closed"
    gates.touch()
    pool = pool_of(client, gate(gates), min_consumers=2, max_consumers=2, lease=60.0)
    wait_until(lambda: pool.stats().busy == 2)
    gates.unlink()
    pool.stop()
    assert (pool.size, pool.stats().leaving) == (0, 0)
    done = len(copies(client)) // 10
    assert 2 <= done <= 40
    assert client.lag("numbers")["default"].total.batches <= 40 - 2
    assert pool.stats().batches == done
    pool.stop()
    with pytest.raises(bowstring.InvalidArgument, match="stopped"):
        pool.join(1)
    with pool_of(client, lambda batch: batch) as other:
        other.join(60)
        assert other.stats().repeated == 0
    assert copies(client) == list(range(400))


def test_a_pool_outlives_an_absence_of_the_coordinator(serve: Callable[..., Served], tmp_path: Path) -> None:
    served = serve("--data-dir", str(tmp_path / "data"))
    fill(bowstring.connect(served.url), 60, complete=False)
    gates = tmp_path / "closed"
    gates.touch()
    client = bowstring.connect(served.url, retry_deadline=0.5)
    with pool_of(client, gate(gates), min_consumers=2, max_consumers=2) as pool:
        wait_until(lambda: pool.stats().busy == 2)
        served.child.kill()
        gates.unlink()
        wait_until(lambda: pool.history()[-1].lag is None)
        assert pool.size == 2
        serve("--data-dir", str(tmp_path / "data"), "--listen", served.address)
        again = bowstring.connect(served.url)
        again.complete_stream("numbers")
        pool.join(90)
        assert pool.stats().died == 0
    assert copies(again) == list(range(600))


def test_what_no_consumer_can_mend_is_raised(client: bowstring.Client) -> None:
    fill(client, 4, complete=False)
    client.fail_stream("numbers", "the generator broke")
    with pool_of(client, lambda batch: batch) as pool, pytest.raises(bowstring.StreamFailed, match="generator broke"):
        pool.join(60)
    assert copies(client) == list(range(40)), "what was there before"

    class Broken:
        def __init__(self) -> None:
            raise RuntimeError("no weights")

    client.create_stream("others")
    pool = ConsumerPool(Broken, "others", client=client, **SMALL)
    with pytest.raises(RuntimeError, match="no weights"):
        pool.join(60)
    pool.stop()
    with (
        pytest.raises(RuntimeError, match="no weights"),
        ConsumerPool(Broken, "others", url=client.url, **SMALL) as pool,
    ):
        wait_until(lambda: pool.stats().started > 0 and pool.size == 0)


def test_actors_that_never_come_up_are_not_replaced_for_ever(client: bowstring.Client) -> None:
    client.create_stream("numbers")

    def unpack() -> None:
        raise RuntimeError("cannot be unpacked here")

    class Packed:
        def __reduce__(self) -> Any:
            return unpack, ()

    pool = ConsumerPool(Packed(), "numbers", client=client, **SMALL)
    with pytest.raises(ray.exceptions.RayActorError, match="cannot be unpacked here"):
        pool.join(120)
    assert pool.stats().started == pool.stats().died == 5
    pool.stop()


def test_what_cannot_be_meant_is_refused(client: bowstring.Client) -> None:
    fill(client, 1)
    for wrong in ({"url": client.url}, {"client": None}, {"lag_unit": "bytes"}, {"target_lag": 0}):
        with pytest.raises(bowstring.InvalidArgument):
            ConsumerPool(print, "numbers", **{"client": client, **wrong})
    with pytest.raises(bowstring.StreamNotFound):
        ConsumerPool(print, "nothing", client=client)

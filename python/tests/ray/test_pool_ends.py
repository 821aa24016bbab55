"""Pools that end otherwise than by the end of their stream, and pools that are asked while Ray takes its time."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock

import pyarrow as pa
import pytest
import ray

import bowstring
from bowstring.ray.consumers import Member

from ..support import Child, wait_until
from .test_pool import _no_actor_is_left, copies, fill, gate, pool_of

__all__ = ["_no_actor_is_left"]

pytestmark = pytest.mark.usefixtures("ray_session")


SHUT_DOWN = """
import sys, time, ray, bowstring
from bowstring.ray import ConsumerPool
ray.init(num_cpus=1, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False)
pool = ConsumerPool(len, "numbers", url=sys.argv[1], interval=0.05)
while pool.stats().started == 0:
    time.sleep(0.01)
ray.shutdown()
print(ray.is_initialized())
try:
    pool.join()
except bowstring.InvalidArgument as error:
    print(error)
pool.stop()
print(ray.is_initialized(), pool.size)
"""


def test_a_pool_of_a_ray_that_was_shut_down_starts_no_other(
    client: bowstring.Client, start_python: Callable[..., Child]
) -> None:
    client.create_stream("numbers")
    child = start_python("-c", SHUT_DOWN, client.url)
    assert child.line(120) == "False"
    assert child.line(60).startswith("Ray was shut down under the pool of stream numbers")
    assert child.line() == "False 0"


def test_a_pool_that_has_not_looked_for_long_does_not_kill_who_works(client: bowstring.Client, tmp_path: Path) -> None:
    fill(client, 20)
    gates = tmp_path / "closed"
    gates.touch()
    opened = gate(gates)

    def work(batch: pa.RecordBatch) -> pa.RecordBatch:
        (tmp_path / f"works-{os.getpid()}").touch()
        return opened(batch)

    pool = pool_of(client, work, min_consumers=2, max_consumers=2, interval=600.0, lease=60.0)
    try:
        # They have answered, and nobody has looked.
        wait_until(
            lambda: pool.size == 2 and all(ray.wait([one._asked], timeout=0)[0] for one in pool._members), timeout=180
        )
        wait_until(lambda: len(list(tmp_path.glob("works-*"))) == 2)
        with ThreadPoolExecutor(1) as threads:
            stopping = threads.submit(pool.stop)
            wait_until(lambda: pool.stats().leaving == 2 or stopping.done())
            assert pool.stats().leaving == 2
            gates.unlink()
            stopping.result(timeout=90)
    finally:
        # Its consumers would keep their slots from the tests that follow.
        gates.unlink(missing_ok=True)
        pool.stop()
    stats = pool.stats()
    assert (stats.size, stats.leaving, stats.started, stats.died) == (0, 0, 2, 0)
    assert len(copies(client)) == 10 * stats.batches
    assert client.lag("numbers")["default"].total.batches == 20 - stats.batches


def test_nobody_who_asks_waits_for_ray(client: bowstring.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(client, 1)
    looks, may_go_on = Event(), Event()
    look = Member.look

    def hang(self: Member) -> bool:
        looks.set()
        assert may_go_on.wait(120)
        return look(self)

    monkeypatch.setattr(Member, "look", hang)
    pool = pool_of(client, lambda batch: batch)
    with ThreadPoolExecutor(1) as threads:
        try:
            assert looks.wait(60)
            assert threads.submit(lambda: (pool.size, pool.stats().size)).result(timeout=30) == (1, 1)
            assert len(threads.submit(pool.history).result(timeout=30)) >= 1
            with pytest.raises(bowstring.Timeout):
                threads.submit(pool.join, 0.1).result(timeout=30)
        finally:
            may_go_on.set()
            pool.stop()


def test_a_subscription_that_is_gone_is_an_error_that_says_so(client: bowstring.Client) -> None:
    fill(client, 0, complete=False)
    with pool_of(client, lambda batch: batch, min_consumers=0) as pool:
        client.unsubscribe("numbers", "default")
        with pytest.raises(bowstring.StreamNotFound, match="no subscription default"):
            pool.join(60)


def test_an_error_that_cannot_travel_is_one_all_the_same(client: bowstring.Client) -> None:
    client.create_stream("numbers")

    class OddError(Exception):
        def __init__(self) -> None:
            super().__init__("no weights")
            self.lock = Lock()

    class Broken:
        def __init__(self) -> None:
            raise OddError

    with pool_of(client, Broken) as pool, pytest.raises(Exception, match="no weights"):
        pool.join(180)

"""Coordinators as actors of a real Ray: found by name, killed at work, and back with all that was confirmed."""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

import bowstring
from bowstring.ray import Coordinators, CoordinatorStatus, coordinators, start_coordinators
from bowstring.ray.finding import Named
from bowstring.ray.ports import candidates, is_free, recall, remember
from bowstring.streaming import create_partitioned_iterators

from ..support import ids, numbered, wait_until

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[Coordinators]:
    with start_coordinators(2, "durable", data_dir=str(tmp_path), host="127.0.0.1") as running:
        yield running


def kill(running: Coordinators, index: int) -> int:
    """Ends the coordinator's process with SIGKILL, and waits until there is another one."""
    pid = pid_of(running, index)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: running.status()[index].pid not in (None, pid))
    return pid


def all_up(running: Coordinators) -> list[CoordinatorStatus]:
    """What they say once all of them have answered: on a busy machine one may take longer than `status` waits."""
    found: list[CoordinatorStatus] = []

    def are_up() -> bool:
        found[:] = running.status()
        return all(one.is_up for one in found)

    wait_until(are_up)
    return found


def pid_of(running: Coordinators, index: int) -> int:
    pid = all_up(running)[index].pid
    assert pid is not None
    return pid


def by_partition(iterator: bowstring.StreamingIterator) -> dict[int, list[tuple[int, int]]]:
    found: dict[int, list[tuple[int, int]]] = {}
    for one in iterator.batches_with_offsets():
        found.setdefault(one.partition, []).append((one.offset, one.batch["id"][0].as_py()))
    return found


def test_what_is_appended_by_one_client_is_read_by_another(durable: Coordinators) -> None:
    client = durable.client()
    assert len(durable) == 2
    assert durable.create_stream("numbers", partitions=5)["is_durable"]
    with client.producer("numbers") as producer:
        for number in range(20):
            producer.append(numbered(number * 10))
        producer.complete()
    assert sorted(ids(coordinators("durable").client().iterator("numbers"))) == list(range(200))
    first, second = all_up(durable)
    assert (first.index, first.is_up, first.streams, first.is_restarted) == (0, True, 1, False)
    assert first.pid != second.pid
    assert [first.url, second.url] == durable.urls


def test_tasks_and_actors_find_them_by_name_and_take_clients_and_iterators(durable: Coordinators) -> None:
    @ray.remote
    def fill(name: str) -> int:
        client = coordinators(name).client()
        client.create_stream("numbers", partitions=4)
        with client.producer("numbers") as producer:
            for number in range(40):
                producer.append(numbered(number * 10))
            producer.complete()
        return len(client)

    @ray.remote
    def count(iterator: bowstring.StreamingIterator) -> list[int]:
        return ids(iterator)

    assert ray.get(fill.remote("durable")) == 2
    iterators = create_partitioned_iterators(durable, 3, 4)
    found = ray.get([count.remote(one) for one in iterators])
    assert sorted(itertools.chain.from_iterable(found)) == list(range(400))
    copy = pickle.loads(pickle.dumps(durable))
    assert copy.urls == durable.urls


def test_killed_at_work_nothing_acknowledged_is_lost_and_nothing_comes_twice(durable: Coordinators) -> None:
    client = durable.client()
    client.create_stream("numbers", partitions=4, max_buffered_batches=100_000)
    batches, confirmed, going_on = 3000, [0], threading.Event()

    def append() -> None:
        with client.producer("numbers") as producer:
            for number in range(batches):
                producer.append(numbered(number * 10))
                if number % 100 == 99:
                    producer.flush()
                    confirmed[0] = number + 1
                if confirmed[0] == 500:
                    going_on.set()
            producer.complete()

    found: dict[int, list[tuple[int, int]]] = {}

    def read(iterator: bowstring.StreamingIterator) -> None:
        # Stores its offsets with what it has read, as a consumer does that is to be exactly once.
        for one in iterator.batches_with_offsets():
            found.setdefault(one.partition, []).append((one.offset, one.batch["id"][0].as_py()))

    threads = [threading.Thread(target=append)]
    threads += [
        threading.Thread(target=read, args=(one,))
        for one in create_partitioned_iterators(client, 2, 4, stream="numbers")
    ]
    for one in threads:
        one.start()
    assert going_on.wait(60)
    urls = durable.urls
    for index in (0, 1, 0):
        kill(durable, index)
    for one in threads:
        one.join(120)
        assert not one.is_alive()
    assert durable.urls == urls, "each is back at its port"
    assert [one.is_restarted for one in all_up(durable)] == [True, True]
    assert found == {
        partition: [(offset, 10 * number) for offset, number in enumerate(range(partition, batches, 4))]
        for partition in range(4)
    }
    wait_until(lambda: client.lag("numbers")["default"].total.batches == 0)


def test_plain_clients_go_on_by_themselves_when_it_is_back_at_its_port(durable: Coordinators) -> None:
    client = bowstring.connect(durable.urls[0])
    client.create_stream("numbers")
    producer = client.producer("numbers")
    for number in range(100):
        producer.append(numbered(number * 10))
    iterator = client.iterator("numbers")
    found = ids(next(iterator) for _ in range(50))
    kill(durable, 0)
    producer.append(numbered(1000))
    producer.complete()
    found += ids(iterator)
    assert found == list(range(1010))


def test_clients_find_it_at_another_port(durable: Coordinators, tmp_path: Path) -> None:
    client = durable.client()
    client.create_stream("numbers", partitions=2)
    producer = client.producer("numbers")
    for number in range(100):
        producer.append(numbered(number * 10))
    producer.flush()
    iterator = client.iterator("numbers")
    found = [ids([next(iterator)]) for _ in range(50)]
    before = durable.urls
    (tmp_path / "durable-1" / "port").unlink()
    kill(durable, 1)
    for number in range(100, 120):
        producer.append(numbered(number * 10))
    producer.complete()
    found += [ids([batch]) for batch in iterator]
    after = durable.urls
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)
    assert sorted(itertools.chain.from_iterable(found)) == list(range(1200))
    assert len(found) == 120, "no batch twice"


def test_with_an_object_store_it_comes_back_with_an_empty_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    store = f"file://{tmp_path / 'store'}"
    (tmp_path / "store").mkdir()
    with start_coordinators(2, "stored", object_store=store, data_dir=str(disk), host="127.0.0.1") as running:
        client = running.client()
        client.create_stream("numbers", partitions=4)
        producer = client.producer("numbers")
        for number in range(40):
            producer.append(numbered(number * 10))
        producer.flush()
        # As on another node: nothing of the disk is there, the port's number neither.
        pid = pid_of(running, 0)
        (disk / "stored-0").rename(tmp_path / "away")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: running.status()[0].pid not in (None, pid))
        for number in range(40, 60):
            producer.append(numbered(number * 10))
        producer.complete()
        assert by_partition(client.iterator("numbers")) == {
            partition: [(offset, 10 * number) for offset, number in enumerate(range(partition, 60, 4))]
            for partition in range(4)
        }


def test_without_a_data_directory_a_restart_has_lost_the_streams_and_says_so() -> None:
    with start_coordinators(2, "forgetful", host="127.0.0.1") as running:
        client = running.client()
        client.create_stream("numbers")
        producer = client.producer("numbers")
        producer.append(numbered(0), partition=1)
        producer.flush()
        iterator = client.iterator("numbers", timeout=60)
        next(iterator)
        kill(running, 1)
        with pytest.raises((bowstring.StreamNotFound, bowstring.StreamReplaced)):
            next(iterator)
        with pytest.raises((bowstring.StreamNotFound, bowstring.StreamReplaced)):
            producer.append(numbered(10), partition=1)
            producer.flush()
        with pytest.raises(bowstring.StreamNotFound, match=r"\[1\].*data directory"):
            client.describe_stream("numbers")
        client.delete_stream("numbers")
        client.create_stream("numbers")


DRIVER = """
    import sys
    import ray
    from bowstring.ray import coordinators, start_coordinators

    ray.init(address=sys.argv[1], log_to_driver=False)
    if sys.argv[2] == "start":
        start_coordinators(2, "outliving", lifetime="detached", host="127.0.0.1").create_stream("numbers", partitions=3)
    else:
        client = coordinators("outliving").client()
        print(len(client.describe_stream("numbers")["partitions"]))
"""


def test_two_drivers_find_them_by_name_and_detached_ones_outlive_the_first() -> None:
    address = ray.get_runtime_context().gcs_address

    def drive(what: str) -> str:
        command = [sys.executable, "-c", textwrap.dedent(DRIVER), address, what]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    drive("start")
    assert drive("look").split() == ["3"]
    running = coordinators("outliving")
    with running.client().producer("numbers") as producer:
        producer.append(numbered(0))
        producer.complete()
    assert ids(running.client().iterator("numbers")) == list(range(10))
    running.stop()
    with pytest.raises(bowstring.Unavailable, match="start_coordinators"):
        coordinators("outliving", timeout=0.5)


def test_those_that_are_not_detached_end_with_what_started_them() -> None:
    running = start_coordinators(1, "tied", host="127.0.0.1")
    assert len(all_up(coordinators("tied"))) == 1
    del running
    gc.collect()
    found = Named("tied", "bowstring", 1)
    wait_until(lambda: found() == [None])


def test_a_name_is_taken_once_and_free_after_the_stop() -> None:
    with start_coordinators(1, "once", host="127.0.0.1"), pytest.raises(bowstring.InvalidArgument, match="already"):
        start_coordinators(1, "once", host="127.0.0.1")
    with start_coordinators(1, "once", host="127.0.0.1") as running:
        assert len(all_up(running)) == 1
    assert running.status() == [CoordinatorStatus(0, is_up=False)]
    with pytest.raises(bowstring.Unavailable, match=r"\[0\]"):
        running.wait(timeout=0.2)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"n": 0}, "one coordinator at least"),
        ({"n": 1, "listen": "127.0.0.1:1"}, "host"),
        ({"n": 1, "max_batches": 1}, "max_buffered_batches"),
        ({"n": 1, "data_dir": "/proc/nowhere"}, "data_dir"),
        ({"n": 1, "host": "192.0.2.77"}, "192.0.2.77"),
        ({"n": 1, "nodes": ["nowhere"]}, "nowhere"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_nothing_behind(options: dict[str, object], text: str) -> None:
    with pytest.raises(bowstring.InvalidArgument, match=text):
        start_coordinators(name="refused", **options)
    with pytest.raises(bowstring.Unavailable):
        coordinators("refused", timeout=0.0)


def test_there_is_no_room_for_them() -> None:
    with pytest.raises(bowstring.Unavailable, match="no room"):
        start_coordinators(1, "large", num_cpus=1000, timeout=1.0)


def test_those_with_a_disk_are_pinned_to_its_node(durable: Coordinators) -> None:
    (node,) = [one["NodeID"] for one in ray.nodes() if one["Alive"]]
    assert {one.node for one in all_up(durable)} == {node}


def test_a_port_is_none_that_the_system_gives_to_connections(tmp_path: Path) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    drawn = candidates("127.0.0.1", None)
    assert drawn
    assert all(20_000 <= port < first for port in drawn)
    file = tmp_path / "port"
    assert recall(file) is None
    remember(file, drawn[0])
    assert recall(file) == drawn[0]
    assert candidates("127.0.0.1", drawn[0])[0] == drawn[0]
    with socket.create_server(("127.0.0.1", drawn[0])):
        assert not is_free("127.0.0.1", drawn[0])
        assert drawn[0] not in candidates("127.0.0.1", drawn[0])

"""A thousand consumers and a hundred producers on one coordinator, and the next one beyond its limit."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.flight as flight
import pytest

import bowstring

from ..support import Child, Served, get, metric, numbered, wait_until
from .drift import descriptors, resident_bytes, threads

CONSUMERS = int(os.environ.get("LOAD_CONSUMERS", "1000"))
PRODUCERS = int(os.environ.get("LOAD_PRODUCERS", "100"))
PROCESSES = 4
BATCHES, ROWS = 50, 10
CROWD = str(Path(__file__).with_name("crowd.py"))
CONNECTIONS = 32


def connections(served: Served) -> float:
    return metric(get(f"{served.http_url}/metrics"), "bowstring_open_connections")


def readers(served: Served) -> int:
    lines = get(f"{served.http_url}/metrics").splitlines()
    return sum(int(line.split()[-1]) for line in lines if line.startswith("bowstring_open_readers{"))


@pytest.mark.timeout(240)
def test_a_thousand_consumers_and_a_hundred_producers_get_all_of_it(
    serve: Callable[..., Served], start_python: Callable[..., Child], capsys: pytest.CaptureFixture[str]
) -> None:
    served = serve()
    pid, client = served.child.process.pid, bowstring.connect(served.url)
    for stream in range(PRODUCERS):
        client.create_stream(f"s-{stream}", max_buffered_batches=8)
    for consumer in range(CONSUMERS):
        client.subscribe(f"s-{consumer % PRODUCERS}", f"c-{consumer}")
    idle = connections(served)
    began = time.monotonic()
    bounds = [CONSUMERS * part // PROCESSES for part in range(PROCESSES + 1)]
    arguments = [(str(first), str(last)) for first, last in itertools.pairwise(bounds)]
    crowds = [start_python(CROWD, "consume", served.url, *one, str(PRODUCERS)) for one in arguments]
    producers = start_python(CROWD, "produce", served.url, str(PRODUCERS), str(BATCHES))
    assert producers.line() == "ready"
    wait_until(lambda: readers(served) == CONSUMERS, 120)
    connected, most = time.monotonic() - began, connections(served)
    producers.say("go")
    told = [crowd.line(120).split() for crowd in crowds]
    took = time.monotonic() - began - connected
    assert producers.line() == "done"
    assert sum(int(count) for count, _ in told) == CONSUMERS
    assert sum(int(rows) for _, rows in told) == CONSUMERS * BATCHES * ROWS
    with capsys.disabled():
        memory = resident_bytes(pid) >> 20
        print(f"\n{CONSUMERS} consumers were reading after {connected:.1f} s, over {most:.0f} connections;")
        print(f"  all of them had {BATCHES} batches of each of {PRODUCERS} producers {took:.1f} s later;")
        print(f"  {memory} MiB, {threads(pid)} threads")
    # What they had is given back.
    for crowd in crowds:
        assert crowd.process.wait(30) == 0
    wait_until(lambda: connections(served) <= idle + 1)
    assert descriptors(pid) < 100


@pytest.mark.timeout(60)
def test_the_next_one_beyond_the_limit_fails_by_its_deadline_and_the_others_go_on(
    serve: Callable[..., Served], capsys: pytest.CaptureFixture[str]
) -> None:
    served = serve("--connections-max", str(CONNECTIONS))
    client = bowstring.connect(served.url, local_socket=False)
    producer = client.producer("s")
    producer.append(numbered(0))
    producer.flush()
    others = []
    while connections(served) < CONNECTIONS:
        others.append(flight.connect(served.url))
        list(others[-1].list_flights())
    began = time.monotonic()
    # It waits in the system's backlog, where nobody says anything to it: its own deadline ends that.
    with pytest.raises(bowstring.Unavailable) as refused:
        bowstring.connect(served.url, timeout=2.0, retry_deadline=2.0, local_socket=False).list_streams()
    took = time.monotonic() - began
    with capsys.disabled():
        print(f"\nconnection {CONNECTIONS + 1} of {CONNECTIONS} after {took:.1f} s: {refused.value}")
    assert took < 15.0
    # Those who are in notice nothing, and the probes have a port of their own.
    producer.append(numbered(10))
    producer.flush()
    assert len(list(others[0].list_flights())) == 1
    assert "ready" in get(f"{served.http_url}/readyz")
    # Places that are free are taken: one by the client that has given up its call, not its connection.
    for one in (others.pop(), others.pop(), others.pop()):
        one.close()
    assert len(bowstring.connect(served.url, timeout=10.0).list_streams()) == 1

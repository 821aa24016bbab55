"""Workers whose output has no room, or whose input is another suddenly, and workers that are stopped anywhere."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest

import bowstring
from bowstring import outputs
from bowstring.outputs import Output
from bowstring.working import Worker

from .proxy import Proxy
from .support import ids, numbered, wait_until
from .test_working import fill, lag, output_ids, tenfold, worker

#: The first failure of a batch is its last.
ONCE = bowstring.Sharing(max_deliveries=1)


def test_a_stream_made_anew_while_nobody_could_be_reached_has_results_of_its_own(
    client: bowstring.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(client.url.removeprefix("grpc://"))
    fill(client, 4, complete=False)
    waits: list[bool] = []
    wait = Worker._wait
    monkeypatch.setattr(Worker, "_wait", lambda self: (waits.append(True), wait(self))[1])
    through = bowstring.connect(proxy.url, retry_deadline=0.2, local_socket=False)
    own = worker(through, output_client=client)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(own.run)
        try:
            wait_until(lambda: own.done().batches == 4)
            proxy.cut()
            waits.clear()
            wait_until(lambda: waits)
            # As when a coordinator in memory comes back empty, and the stream is made as it was.
            client.delete_stream("numbers")
            fill(client, 6)
            proxy.heal()
            assert working.result(timeout=60)
        finally:
            own.stop()
            proxy.close()
    done = own.done()
    assert (done.batches, done.repeated, done.failures) == (10, 0, 0)
    assert output_ids(client) == sorted([*range(400), *range(600)])


def test_an_output_without_room_is_waited_for_and_nothing_fails(client: bowstring.Client) -> None:
    fill(client, 5, max_buffered_batches=20)
    client.subscribe("tens", "reader")
    own = worker(client, subscription="once", sharing=ONCE, ack_within=2.0)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(own.run)
        wait_until(lambda: own.done().batches == 2)
        full = time.monotonic()
        # Longer than anybody may have a batch: one failure sends it to the dead letters.
        wait_until(lambda: time.monotonic() > full + 4.5)
        read: list[int] = []
        with client.iterator("tens", subscription="reader", timeout=60) as iterator:
            for batch in iterator:
                read += ids([batch])
                if len(read) == 500:
                    break
        assert working.result(timeout=60)
    assert sorted(read) == list(range(500))
    assert (own.done().batches, own.done().failures) == (5, 0)
    assert "numbers.dead-letters" not in [one["stream"] for one in client.list_streams()]


def test_an_output_whose_spool_is_full_is_waited_for_and_nothing_fails(client: bowstring.Client) -> None:
    fill(client, 3, max_buffered_bytes=1 << 20, max_spool_bytes=1 << 20)
    # Another's epoch has it all.
    other = {"producer": "other", "run": "run", "epoch": 1}
    client.open_epoch("tens", *other.values())
    writer = client.writer("tens", **other, task=0, attempt=0)
    with pytest.raises(bowstring.SpoolFull):
        for _ in range(3000):
            writer.append(numbered(0, 100))
        writer.finish()
    tries = []

    def fn(batch: pa.RecordBatch) -> pa.Table:
        tries.append(batch)
        return tenfold(batch)

    own = worker(client, fn, subscription="once", sharing=ONCE)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(own.run)
        wait_until(lambda: len(tries) >= 3)
        assert (own.done().batches, own.done().failures) == (0, 0)
        client.abort_epoch("tens", *other.values())
        assert working.result(timeout=60)
    assert (own.done().batches, own.done().failures) == (3, 0)
    assert output_ids(client) == list(range(300))


def test_an_output_that_remembers_too_many_producers_ends_the_worker(client: bowstring.Client) -> None:
    fill(client, 2, complete=False)

    class Full(bowstring.Client):
        """To make 16,384 producers takes long."""

        def open_epoch(self, *_: Any) -> str:
            raise bowstring.errors.make("too_many", True, "the stream remembers 16384 producers")

    with pytest.raises(bowstring.BufferFull, match="16384"):
        worker(client, output_client=Full(client.url)).run()
    assert lag(client) == 2


def test_a_subscription_that_is_gone_is_an_error_that_says_so(
    client: bowstring.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "_SLOTS_MAX", 1)
    fill(client, 2, complete=False)
    output = Output(client, "numbers", "team", "tens")
    with client.iterator("numbers", subscription="team", mode="shared", auto_ack=False, timeout=60) as iterator:
        next(handles := iterator.handles())
        second = next(handles)
        client.unsubscribe("numbers", "team")
        with pytest.raises(bowstring.StreamNotFound, match="no subscription team"):
            output.has_turn(second)


def test_a_stop_from_a_handler_that_interrupts_the_worker_anywhere_ends_it(client: bowstring.Client) -> None:
    own = worker(client)
    stopped = []

    def trace(*_: object) -> Any:
        # As a signal's handler would, between any two lines of it and of what it calls.
        own.stop()
        stopped.append(True)
        return trace

    def wait() -> None:
        sys.settrace(trace)
        try:
            own._wait()
        finally:
            sys.settrace(None)

    waiting = Thread(target=wait, daemon=True)
    waiting.start()
    waiting.join(30)
    assert not waiting.is_alive()
    assert stopped
    assert not own.run(), "it is stopped"

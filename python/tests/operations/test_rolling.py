"""Coordinators that are restarted one after the other under load: nothing lost or doubled, back within seconds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

import bowstring

from ..support import Child, Served, get, numbered, wait_until
from .test_deploy import INSECURE, container, rendered

PARTITIONS = 2
#: Seconds from the signal to the next batch of every consumer: what the issue promises.
BACK_WITHIN = 5.0
ROWS = 10


def is_ready(served: Served) -> bool:
    try:
        return "ready" in get(f"{served.http_url}/readyz")
    except OSError:
        return False


class Pod:
    """A coordinator as the chart starts it, on addresses that stay its own, with its volume."""

    def __init__(self, start_python: Callable[..., Child], folder: Path) -> None:
        settings = {one["name"]: one["value"] for one in container(rendered(INSECURE))["env"] if "value" in one}
        settings |= {"BOWSTRING_LISTEN": "127.0.0.1:0", "BOWSTRING_HTTP": "127.0.0.1:0"}
        settings |= {"BOWSTRING_DATA_DIR": f"{folder}/log", "BOWSTRING_SPOOL_DIR": str(folder)}
        # A pod's name is resolved within its cluster alone.
        del settings["BOWSTRING_ADVERTISE_HOST"]
        folder.mkdir()
        self._start = start_python
        self._settings = settings
        self.served = self._started()
        self._settings |= {
            "BOWSTRING_LISTEN": self.served.address,
            "BOWSTRING_HTTP": self.served.http_url[len("http://") :],
        }

    def _started(self) -> Served:
        flags = [
            (f"--{name[len('BOWSTRING_') :].lower().replace('_', '-')}", value)
            for name, value in self._settings.items()
        ]
        return Served(self._start("-m", "bowstring", "serve", *(one for flag in flags for one in flag)))

    def restart(self, how: signal.Signals) -> float:
        """Ends it and starts it again, until it is ready; when it was told to end."""
        child, told = self.served.child, time.monotonic()
        os.kill(child.process.pid, how)
        code = child.process.wait(30)
        assert code == (0 if how == signal.SIGTERM else -how), "".join(child.errors)
        self.served = self._started()
        wait_until(lambda: is_ready(self.served))
        return told


class Traffic:
    """A producer, and a consumer for each partition, which note what they did."""

    def __init__(self, url: str, running: ExitStack) -> None:
        self.client = bowstring.connect(url)
        self.client.create_stream("s", partitions=PARTITIONS, max_buffered_batches=1000)
        self.client.subscribe("s", "all")
        self.appended = 0
        self.rows: list[list[int]] = [[] for _ in range(PARTITIONS)]
        self.failures: list[BaseException] = []
        self._ending = Event()
        self._threads = [self._thread(self._produce), *(self._thread(self._consume, one) for one in range(PARTITIONS))]
        running.callback(self._ending.set)

    def _thread(self, work: Callable[..., None], *arguments: Any) -> Thread:
        def run() -> None:
            try:
                work(*arguments)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test is to tell of it
                self.failures.append(error)

        thread = Thread(target=run, daemon=True)
        thread.start()
        return thread

    def _produce(self) -> None:
        with self.client.producer("s", producer_id="steady") as producer:
            while not self._ending.wait(0.005):
                producer.append(numbered(self.appended * ROWS, ROWS), partition=self.appended % PARTITIONS)
                self.appended += 1
            producer.complete()

    def _consume(self, partition: int) -> None:
        for batch in self.client.iterator("s", subscription="all", partitions=[partition]):
            self.rows[partition] += batch["id"].to_pylist()

    def back_after(self, told: float) -> float:
        """Waits until every consumer has had a batch since the coordinator was ready; how long since the signal."""
        counts = [len(rows) for rows in self.rows]
        wait_until(
            lambda: self.failures or all(len(rows) > count for rows, count in zip(self.rows, counts, strict=True))
        )
        assert not self.failures, self.failures
        return time.monotonic() - told

    def end(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)
        assert not self.failures, self.failures


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_restarts_one_after_the_other_lose_and_double_nothing_and_consumers_are_back_in_time(
    how: signal.Signals, start_python: Callable[..., Child], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as running:
        pods = [Pod(start_python, tmp_path / f"pod-{number}") for number in range(2)]
        traffic = [Traffic(pod.served.url, running) for pod in pods]
        wait_until(lambda: all(len(rows) > 100 for one in traffic for rows in one.rows))
        times = []
        # A StatefulSet begins with the last, and goes on when that is ready. Twice: two new versions.
        for pod, one in 2 * list(zip(reversed(pods), reversed(traffic), strict=True)):
            told = pod.restart(how)
            ready = time.monotonic()
            times.append((ready - told, one.back_after(told)))
        for one in traffic:
            one.end()
            for partition, rows in enumerate(one.rows):
                appended = range(partition, one.appended, PARTITIONS)
                assert rows == [row for number in appended for row in range(number * ROWS, (number + 1) * ROWS)]
    with capsys.disabled():
        told_times = ", ".join(f"ready after {ready:.2f} s, consumers back after {back:.2f} s" for ready, back in times)
        print(f"\n{how.name}: {told_times}")
    assert max(back for _, back in times) < BACK_WITHIN

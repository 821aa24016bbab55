"""What tests of durable streams with Spark share: a coordinator that dies and comes back, a consumer, a restarter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pyarrow as pa

import bowstring

from ..support import Served
from .conftest import wait_until

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery

    from .points import Points

WAYS = ("foreach_batch", "datasource", "plain", "jvm")


class Durable:
    """A coordinator with a data directory, as a process: killed with SIGKILL and started again, at the same address."""

    def __init__(self, serve: Callable[..., Served], directory: Path) -> None:
        self._serve, self.directory = serve, directory
        self._data_dir = str(directory / "data")
        self._served = serve("--data-dir", self._data_dir)
        self.address, self.url = self._served.address, self._served.url
        self.client = bowstring.connect(self.url)

    def kill(self) -> None:
        self._served.child.kill()

    def start(self) -> None:
        self._served = self._serve("--data-dir", self._data_dir, "--listen", self.address)

    def restart(self) -> None:
        self.kill()
        self.start()

    def wait_for_commits(self, epochs: int, stream: str = "s") -> None:
        """Until so many epochs are committed, durably, whoever has heard of it."""
        wait_until(lambda: self.client.describe_stream(stream)["epochs_committed"] >= epochs, 120)
        # A description tells of what is on its way to the disk, too; the answer to who subscribes comes
        # behind all of it.
        self.client.subscribe(stream, "probe", "latest")
        self.client.unsubscribe(stream, "probe")


class Reader(Thread):
    """A consumer in a thread, which goes on over the deaths of its coordinator, and keeps batches by their offset.

    Exactly once is its own doing, as the guarantees ask for: what it gets again it must know, and be the same.
    """

    def __init__(self, url: str, stream: str = "s") -> None:
        super().__init__(name=f"reader of {stream}", daemon=True)
        self.batches: dict[tuple[int, int], tuple[int | None, pa.RecordBatch]] = {}
        self.repeated = 0
        self.error: BaseException | None = None
        self._iterator = bowstring.StreamingIterator(url, stream, timeout=180, retry_deadline=180)
        self.start()

    def run(self) -> None:
        try:
            for one in self._iterator.batches_with_offsets():
                place, found = (one.partition, one.offset), (one.epoch, one.batch)
                self.repeated += place in self.batches
                assert self.batches.setdefault(place, found) == found, f"another batch at {place}"
        except BaseException as error:  # noqa: BLE001 - raised in table()
            self.error = error

    def table(self, stream_ends_within: float = 120) -> pa.Table:
        """Once the stream has ended: all there was, with each batch's epoch, ordered by partition and offset."""
        self.join(stream_ends_within)
        assert not self.is_alive(), "the consumer did not come to the end"
        if self.error is not None:
            raise self.error
        for partition in {partition for partition, _ in self.batches}:
            offsets = sorted(offset for found, offset in self.batches if found == partition)
            assert offsets == list(range(len(offsets))), "offsets have a gap"
        return pa.concat_tables(
            pa.Table.from_batches([batch]).append_column("epoch", pa.array([epoch] * batch.num_rows, pa.int64()))
            for _, (epoch, batch) in sorted(self.batches.items(), key=lambda item: item[0])
        )


class Restarter(Thread):
    """Starts a query again from its checkpoint until it comes to its end; `failures` are why it had to."""

    def __init__(self, start: Callable[[], StreamingQuery], tries: int = 12) -> None:
        super().__init__(name="restarter", daemon=True)
        self._start, self._tries = start, tries
        self.queries: list[StreamingQuery] = []
        self.failures: list[str] = []
        self.is_done = False
        self.start()

    def run(self) -> None:
        while not self.is_done and len(self.failures) < self._tries:
            try:
                self.queries.append(self._start())
                self.queries[-1].awaitTermination()
                self.is_done = True
            except Exception as error:  # noqa: BLE001 - the tests look at what it was
                self.failures.append(str(error).split("\n\tat ")[0])

    def wait(self) -> list[str]:
        """Why it failed on its way to the end."""
        self.join(180)
        assert self.is_done, self.failures
        return self.failures

    def stop(self) -> None:
        self.is_done = True
        for query in self.queries:
            with suppress(Exception):
                query.stop()


def at(points: Points, *names: str) -> None:
    """Waits until all of these points are reached."""
    for name in names:
        wait_until(lambda name=name: points.was_reached(name), 120)


@contextmanager
def stopped_at(points: Points, name: str) -> Iterator[None]:
    """While somebody waits at this point."""
    at(points, name)
    yield
    points.go_on(name)


def rows(table: pa.Table, names: Sequence[str]) -> list[dict[str, object]]:
    """The rows, each with all of its columns, by id."""
    return sorted(table.select(list(names)).to_pylist(), key=lambda row: row["id"])

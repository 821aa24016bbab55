"""Clicks, filtered, grouped by page and counted by Ray actors, some of which are killed: the counts are exact.

A generator appends clicks; a pool of actors keeps what people have clicked and appends it, split by page, exactly once;
counting actors have some of the pages each. A counter saves its counts together with the offset that they have come to,
acks after that, and starts from there: whenever it is killed, no click is counted twice and none is left out.
"""

import collections
import os
import random
import signal
import sqlite3
import tempfile
import threading
import time

import pyarrow as pa
import pyarrow.compute as pc
import ray

import bowstring
from bowstring.ray import ConsumerPool

BATCHES, ROWS, COUNTERS, PARTITIONS = 300, 50, 2, 4
PAGES = ["/", "/search", "/cart", "/checkout", "/help"]


def clicks(number: int) -> pa.RecordBatch:
    """Batch `number` of the generator; the same each time."""
    chance = random.Random(number)  # noqa: S311 - no secrets here
    pages = chance.choices(PAGES, weights=[8, 5, 3, 2, 1], k=ROWS)
    return pa.record_batch({"page": pages, "is_robot": [chance.random() < 0.3 for _ in pages]})


def generate(url: str) -> None:
    with bowstring.connect(url).producer("clicks") as producer:
        for number in range(BATCHES):
            producer.append(clicks(number))
            time.sleep(0.02)
        producer.complete()


def by_people(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.filter(pc.invert(batch["is_robot"]))


class Counter:
    """Counts the pages of its partitions; its state is a file that outlives it."""

    def __init__(self, url: str, path: str, partitions: list[int]) -> None:
        self.url = url
        self.path = path
        self.partitions = partitions

    def pid(self) -> int:
        return os.getpid()

    def run(self) -> None:
        database = sqlite3.connect(self.path)
        with database:
            database.execute("create table if not exists counts (page text primary key, clicks integer)")
            database.execute("create table if not exists offsets (part integer primary key, next_offset integer)")
        next_offsets = dict(database.execute("select part, next_offset from offsets"))
        iterator = bowstring.connect(self.url).iterator("views", subscription="counts", partitions=self.partitions)
        # Asking for the next batch acks the one before, whose counts are saved by then.
        for one in iterator.batches_with_offsets():
            if one.offset < next_offsets.get(one.partition, 0):
                continue  # It was counted, and the ack got lost.
            pages = collections.Counter(one.batch["page"].to_pylist())
            with database:  # Counts and offset in one transaction: both or neither.
                database.executemany(
                    "insert into counts values (?, ?) on conflict do update set clicks = clicks + excluded.clicks",
                    pages.items(),
                )
                database.execute("insert or replace into offsets values (?, ?)", (one.partition, one.offset + 1))


def counted(paths: list[str]) -> dict[str, int]:
    """What is saved, of all counters."""
    rows = []
    for path in paths:
        try:
            rows += sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute("select page, clicks from counts")
        except sqlite3.OperationalError:
            continue  # It has not begun.
    return dict(rows)


def kill_some(counters: list[ray.actor.ActorHandle], paths: list[str]) -> None:
    """One with SIGKILL, then one by Ray, while they count; Ray starts them again, and their work."""
    for kills, counter in enumerate(counters):
        pid = ray.get(counter.pid.remote())
        while sum(counted(paths).values()) < (kills + 1) * BATCHES * ROWS // 6:
            time.sleep(0.05)
        if kills % 2:
            ray.kill(counter, no_restart=False)
        else:
            os.kill(pid, signal.SIGKILL)
        print(f"killed counter {kills} at {sum(counted(paths).values())} clicks")


def main(directory: str) -> None:
    with bowstring.StreamCoordinator() as coordinator:
        client = coordinator.client()
        client.create_stream("clicks", partitions=2)
        client.create_stream("views", partitions=PARTITIONS, max_buffered_batches=1000)
        client.subscribe("views", "counts")
        paths = [f"{directory}/counts-{index}.sqlite" for index in range(COUNTERS)]
        actor = ray.remote(Counter).options(max_restarts=-1, max_task_retries=-1, max_concurrency=2, num_cpus=0.5)
        counters = [
            actor.remote(coordinator.url, path, list(range(index, PARTITIONS, COUNTERS)))
            for index, path in enumerate(paths)
        ]
        counting = [counter.run.remote() for counter in counters]
        threading.Thread(target=generate, args=(coordinator.url,)).start()
        options = {"output": "views", "output_routing": "hash(page)", "max_consumers": 4, "num_cpus": 0.5}
        with ConsumerPool(by_people, "clicks", client=client, **options) as pool:
            kill_some(counters, paths)
            pool.join()
        client.complete_stream("views")
        ray.get(counting)

    found = counted(paths)
    expected = collections.Counter(
        row["page"] for number in range(BATCHES) for row in clicks(number).to_pylist() if not row["is_robot"]
    )
    for page, count in sorted(found.items()):
        print(f"{page:10} {count:6}")
    print(f"pages: {len(found)}, the counts are those of a plain count: {found == expected}")


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=128 << 20, log_to_driver=False)
    with tempfile.TemporaryDirectory() as temporary:
        main(temporary)
    ray.shutdown()

"""Kafka -> Spark -> bowstring -> a pool of Ray actors -> bowstring -> Spark -> Kafka: colour palettes of images.

A topic of 2 partitions has references to images that a web server has, each with the time that a fetch takes. Spark's
Kafka source reads the references, and a ConsumerPool fetches each image and finds its five colours. References come
faster than one consumer works: the lag rises, the pool grows beyond what the topic's partitions would allow consumers
of Kafka itself, the lag falls, the pool shrinks. One actor is killed (SIGKILL) at work. `palettes.png` shows lag and
pool over time.

No palette is lost, and none comes twice: what an actor finds is committed with the batch that it is of, or not at all.
That is so up to the stream `palettes`. Spark's Kafka sink behind it is at least once by itself: where one of Spark's
tasks or Spark itself dies, rows may be written again, with the same key, the image's name, by which a reader tells.
Here nothing of Spark dies, and the topic is checked to have each palette just once.

The broker is a real one, of one node, fetched the first time. The example needs ray, pillow and matplotlib.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from PIL import Image, ImageDraw

import bowstring
from bowstring.streaming import add_jar, from_spark_streaming
from services.kafka import SPARK_CONNECTOR, running_broker
from services.maven import jars_for_spark
from services.spark import local_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from bowstring.ray import ConsumerPool, Moment

TOPIC_PARTITIONS = 2
CONSUMERS_MAX = 5
#: Images of a batch: what a consumer takes at once.
BATCH_ROWS = 4
#: Seconds that the web server takes for an image.
FETCH_SECONDS = 0.25
COLOURS = 5
PALETTES = pa.schema([("image", pa.string()), ("palette", pa.list_(pa.string()))])
WAIT_SECONDS_MAX = 300


def main() -> int:
    """Runs the example; 0 if all palettes are there and right, and the pool has grown and shrunk."""
    parser = argparse.ArgumentParser(description="palettes of images, from Kafka to Kafka")
    parser.add_argument("--images", type=int, default=400, help="how many (default: 400)")
    parser.add_argument("--no-kill", action="store_true", help="let all actors live")
    parser.add_argument("--chart", type=Path, default=Path("palettes.png"), help="default: palettes.png")
    arguments = parser.parse_args()
    import ray

    settings = {"num.partitions": str(TOPIC_PARTITIONS)}
    with tempfile.TemporaryDirectory(prefix="bowstring-palettes-", ignore_cleanup_errors=True) as temporary:
        work = Path(temporary)
        names = paint(work / "images", arguments.images)
        with running_broker(settings) as broker, web_server(work / "images") as images:
            ray.init(
                num_cpus=CONSUMERS_MAX, include_dashboard=False, object_store_memory=200 << 20, log_to_driver=False
            )
            spark = local_spark("bowstring palettes", spark_settings())
            # The JVM connector: no Python runs on Spark's executors.
            add_jar(spark)
            try:
                with bowstring.StreamCoordinator() as coordinator:
                    pipeline = Pipeline(spark, coordinator, broker, work)
                    urls = {name: f"{images}/{name}" for name in names}
                    history = pipeline.run(urls, victim=None if arguments.no_kill else names[len(names) // 2])
                right = check(pipeline.written(), work / "images", names)
            finally:
                spark.stop()
                ray.shutdown()
    draw(history, arguments.chart)
    elastic = tell(history, arguments.chart)
    print(
        f"{arguments.images} palettes in the topic, each once, as computed from the files: {right}; "
        f"the pool grew beyond {TOPIC_PARTITIONS} partitions and shrank: {elastic}"
    )
    return 0 if right and elastic else 1


class Pipeline:
    """Both Spark queries, and the pool between them."""

    def __init__(self, spark: SparkSession, coordinator: bowstring.StreamCoordinator, broker: str, work: Path) -> None:
        self.spark = spark
        self.coordinator = coordinator
        self.client = coordinator.client()
        self.kafka = {"kafka.bootstrap.servers": broker}
        self.work = work
        self.queries: tuple[StreamingQuery, ...] = ()

    def run(self, urls: dict[str, str], victim: str | None) -> list[Moment]:
        """Returns, when all palettes are in the topic, what the pool has seen."""
        from bowstring.ray import ConsumerPool

        self.client.create_stream("palettes", schema=PALETTES, partitions=TOPIC_PARTITIONS)
        self.client.create_stream("images", partitions=TOPIC_PARTITIONS, max_buffered_batches=512)
        self.client.subscribe("images", "ray", mode="shared")
        # The topics exist from here on: the broker makes them when somebody asks for them.
        self.refer(dict(list(urls.items())[:1]))
        self.queries = forward, back = self.push(), self.collect()
        with ConsumerPool(
            Palettes,
            "images",
            client=self.client,
            subscription="ray",
            output="palettes",
            max_consumers=CONSUMERS_MAX,
            target_lag=2,
            interval=0.5,
            shrink_after=3,
            lease=2,
            fn_constructor_kwargs={"victim": victim, "killed": str(self.work / "killed")},
            num_cpus=1,
        ) as pool:
            self.refer(dict(list(urls.items())[1:]))
            self.wait(lambda: self.rows("images") == len(urls), "all references are in the stream", pool)
            say(f"{len(urls)} references are in the stream, consumers: {pool.size}")
            self.wait(lambda: self.rows("palettes") == len(urls), "all palettes are found", pool)
            say(f"all palettes are found, consumers: {pool.size}")
            self.wait(lambda: pool.size == 1, "the pool has shrunk to one consumer", pool)
            # The stream ends with its query.
            forward.stop()
            pool.join(timeout=WAIT_SECONDS_MAX)
            history, stats = pool.history(), pool.stats()
        self.client.complete_stream("palettes")
        back.processAllAvailable()
        back.stop()
        say(f"{stats.started} consumers were started, {stats.died} of them killed; {stats.batches} batches")
        if victim is not None and stats.died == 0:
            raise RuntimeError("an actor was to be killed, and none was")
        return history

    def refer(self, urls: dict[str, str]) -> None:
        """Writes references to images into the topic."""
        rows = self.spark.createDataFrame(list(urls.items()), "key string, value string")
        rows.write.format("kafka").options(topic="images", **self.kafka).save()

    def push(self) -> StreamingQuery:
        """Starts the query topic `images` -> stream `images`."""
        reader = self.spark.readStream.format("kafka").options(
            subscribe="images", startingOffsets="earliest", **self.kafka
        )
        _, query = from_spark_streaming(
            reader.load().selectExpr("CAST(key AS string) AS image", "CAST(value AS string) AS url"),
            "images",
            coordinator=self.coordinator,
            num_partitions=TOPIC_PARTITIONS,
            checkpoint_location=str(self.work / "checkpoint-forward"),
            subscription="ray",
            use_jvm_sink=True,
        )
        return query

    def collect(self) -> StreamingQuery:
        """Starts the query stream `palettes` -> topic `palettes`: the image's name is the key."""
        reader = self.spark.readStream.format("bowstring").options(url=self.coordinator.url, stream="palettes")
        rows = reader.load().selectExpr("image AS key", "to_json(struct(*)) AS value")
        writer = rows.writeStream.format("kafka").options(topic="palettes", **self.kafka)
        return writer.option("checkpointLocation", str(self.work / "checkpoint-back")).start()

    def written(self) -> list[tuple[str, list[str]]]:
        """What is in the topic `palettes`."""
        reader = self.spark.read.format("kafka").options(subscribe="palettes", **self.kafka)
        rows = reader.load().selectExpr("CAST(key AS string) AS key", "CAST(value AS string) AS value").collect()
        return [(row.key, json.loads(row.value)["palette"]) for row in rows]

    def rows(self, stream: str) -> int:
        """Rows that have been appended to a stream so far."""
        return sum(partition["rows_total"] for partition in self.client.describe_stream(stream)["partitions"])

    def wait(self, is_so: Callable[[], bool], what: str, pool: ConsumerPool) -> None:
        """Until it is so; raises what a query or the pool has raised, TimeoutError after five minutes."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not is_so():
            for query in self.queries:
                if (error := query.exception()) is not None:
                    raise error
            # It raises what it failed of; a Timeout says that it works.
            with suppress(bowstring.Timeout):
                pool.join(timeout=0)
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {WAIT_SECONDS_MAX} s: {what}; {pool!r}, {pool.stats()}")
            time.sleep(0.1)


class Palettes:
    """What each actor of the pool does with a batch; made once per actor."""

    def __init__(self, victim: str | None, killed: str) -> None:
        self.victim = victim
        self.killed = killed

    def __call__(self, references: pa.RecordBatch) -> pa.RecordBatch:
        """The palettes of a batch of references."""
        found = []
        for image, url in zip(references["image"].to_pylist(), references["url"].to_pylist(), strict=True):
            self.die_once(image)
            with urllib.request.urlopen(url, timeout=30) as answer, Image.open(answer) as picture:  # noqa: S310 - our own
                found.append({"image": image, "palette": palette_of(picture)})
        return pa.RecordBatch.from_pylist(found, PALETTES)

    def die_once(self, image: str) -> None:
        """The first who comes to the victim is killed; who gets its batch then is not."""
        if image == self.victim:
            try:
                os.close(os.open(self.killed, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)


def palette_of(picture: Image.Image) -> list[str]:
    """The five colours of a picture, those of the largest areas first."""
    few = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
    colours = few.getpalette() or []
    counted = sorted(few.getcolors() or [], reverse=True)
    return [f"#{bytes(colours[3 * number : 3 * number + 3]).hex()}" for _, number in counted]


def paint(folder: Path, images: int) -> list[str]:
    """Makes images of coloured fields; their names."""
    folder.mkdir()
    names = [f"image-{number:04}.png" for number in range(images)]
    for number, name in enumerate(names):
        chosen = random.Random(number)  # noqa: S311 - the same images each time
        picture = Image.new("RGB", (96, 64), tuple(chosen.randbytes(3)))
        for _ in range(12):
            x, y = chosen.randrange(96), chosen.randrange(64)
            box = (x, y, x + chosen.randrange(8, 40), y + chosen.randrange(8, 40))
            ImageDraw.Draw(picture).ellipse(box, fill=tuple(chosen.randbytes(3)))
        picture.save(folder / name)
    return names


class Slowly(SimpleHTTPRequestHandler):
    """A web server that is far away."""

    def do_GET(self) -> None:
        time.sleep(FETCH_SECONDS)
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Nothing: there are hundreds of them."""


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """The URL of a web server that has the folder's files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Slowly, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def check(written: list[tuple[str, list[str]]], images: Path, names: list[str]) -> bool:
    """Whether each image's palette is there once, and is that of the file."""
    expected = []
    for name in names:
        with Image.open(images / name) as picture:
            expected.append((name, palette_of(picture)))
    say(f"{len(written)} palettes are in the topic, of {len(dict(written))} images")
    return sorted(written) == expected


def tell(history: list[Moment], chart: Path) -> bool:
    """Prints what became of the pool; whether it grew beyond the partitions, and came back to one consumer."""
    sizes = [moment.size for moment in history]
    top = sizes.index(max(sizes))
    shrank = 1 in sizes[top:]
    lags = [moment.lag for moment in history if moment.lag is not None]
    say(f"a lag of up to {max(lags)} batches; up to {sizes[top]} consumers, one again: {shrank}; see {chart}")
    return sizes[top] > TOPIC_PARTITIONS and shrank


def draw(history: list[Moment], chart: Path) -> None:
    """Lag and size of the pool over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    seconds = [moment.at - history[0].at for moment in history]
    figure, lag = plt.subplots(figsize=(8, 4), layout="constrained")
    size = lag.twinx()
    lag.fill_between(seconds, [moment.lag or 0 for moment in history], step="post", alpha=0.35, label="lag")
    size.step(seconds, [moment.size for moment in history], where="post", color="C1", label="consumers")
    size.axhline(TOPIC_PARTITIONS, color="gray", linestyle=":", label="partitions of the topic")
    lag.set(xlabel="seconds", ylabel="lag in batches", ylim=(0, None), title="A pool of Ray actors follows the lag")
    size.set(ylabel="consumers", ylim=(0, CONSUMERS_MAX + 1))
    figure.legend(loc="outside lower center", ncols=3)
    figure.savefig(chart, dpi=120)


def spark_settings() -> dict[str, str]:
    """Spark's Kafka connector, and batches of few rows."""
    return {
        "spark.jars": jars_for_spark(SPARK_CONNECTOR),
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH_ROWS),
    }


def say(text: str) -> None:
    """Prints a line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())

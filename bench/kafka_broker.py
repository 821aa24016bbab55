"""A real Kafka broker of one node, from Maven's packages: started for a run, in a folder that goes with it."""

from __future__ import annotations

import base64
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from bench.cases import Case
from bench.children import Child, carry, python
from bench.contestants import Contestant
from bench.figures import Figures

POM = Path(__file__).parent / "kafka" / "pom.xml"
#: More than the largest batch.
MESSAGE_BYTES_MAX = 200_000_000
START_SECONDS_MAX = 60
#: What Kafka's own start script sets.
JVM = [
    "-Xms1g",
    "-Xmx1g",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
]


@contextmanager
def running_broker() -> Iterator[Broker]:
    """A broker that listens, until it is left."""
    with tempfile.TemporaryDirectory() as folder:
        broker = _start(Path(folder))
        try:
            broker.wait()
            yield broker
        finally:
            broker.stop()


@contextmanager
def kafka() -> Iterator[Contestant]:
    """A contestant as long as the broker runs; each round has a topic of its own."""
    with running_broker() as broker:
        # Its machine code is made while it runs: the first round would be of another program.
        _carry(broker, Case("warm-up", "relay", 64 << 10, 4_000))
        yield lambda case: _carry(broker, case)


class Broker(Child):
    """The broker's process, and where it listens."""

    def __init__(self, command: list[str], address: str, folder: Path) -> None:
        self.address = address
        self.log = folder / "broker.out"
        super().__init__(command, folder)

    def wait(self) -> None:
        """Until it listens."""
        host, port = self.address.split(":")
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the Kafka broker does not listen:\n{self.log.read_text()[-2000:]}") from error
                time.sleep(0.1)
            else:
                return


def _carry(broker: Broker, case: Case) -> Figures:
    # Its client is only installed where Kafka is measured.
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 3})
    topic = f"bench-{uuid.uuid4()}"
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(60)
    ends = [python("bench.kafka_ends", end, broker.address, topic, case.json()) for end in ("append", "read")]
    try:
        return carry(broker, *ends)
    finally:
        # Its files go too, or the rounds would fill the disk.
        admin.delete_topics([topic])[topic].result(60)


def _start(folder: Path) -> Broker:
    listen, control = _free_ports()
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{control}",
        "listeners": f"PLAINTEXT://127.0.0.1:{listen},CONTROLLER://127.0.0.1:{control}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(folder / "log"),
        "offsets.topic.replication.factor": "1",
        "group.initial.rebalance.delay.ms": "0",
        "message.max.bytes": str(MESSAGE_BYTES_MAX),
        "socket.request.max.bytes": str(2 * MESSAGE_BYTES_MAX),
        "log.segment.delete.delay.ms": "1000",
        "file.delete.delay.ms": "1000",
    }
    file = folder / "server.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    java = ["java", *JVM, f"-Dkafka.logs.dir={folder}", "-cp", class_path(POM)]
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    formatting = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config", str(file)]
    subprocess.run(formatting, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    # What it prints would fill a pipe that nobody reads.
    quiet = ["sh", "-c", 'exec "$@" > broker.out 2>&1', "sh"]
    return Broker([*quiet, *java, "kafka.Kafka", str(file)], f"127.0.0.1:{listen}", folder)


@cache
def class_path(pom: Path) -> str:
    """What a Maven project depends on, fetched by Maven the first time, with whatever mirror it is set up for."""
    with tempfile.NamedTemporaryFile() as file:
        arguments = ["-q", "-B", "-f", str(pom), "dependency:build-classpath", f"-Dmdep.outputFile={file.name}"]
        subprocess.run(["mvn", *arguments], check=True)
        return Path(file.name).read_text().strip()


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]

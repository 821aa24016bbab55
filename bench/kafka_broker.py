"""A real Kafka broker of one node, as the examples start it: for a run, in a folder that goes with it."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.cases import Case
from bench.children import Child, carry, python
from bench.contestants import Contestant
from bench.figures import Figures
from examples.services.kafka import prepare_broker, wait_until_it_listens

#: More than the largest batch.
MESSAGE_BYTES_MAX = 200_000_000
SETTINGS = {
    "message.max.bytes": str(MESSAGE_BYTES_MAX),
    "socket.request.max.bytes": str(2 * MESSAGE_BYTES_MAX),
}
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
        self.folder = folder
        super().__init__(command, folder)

    def wait(self) -> None:
        """Until it listens."""
        wait_until_it_listens(self.process, self.address, self.folder)


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
    command, address = prepare_broker(folder, JVM, SETTINGS)
    # What it prints would fill a pipe that nobody reads.
    quiet = ["sh", "-c", 'exec "$@" > broker.out 2>&1', "sh"]
    return Broker([*quiet, *command], address, folder)

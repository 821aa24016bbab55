"""A real Kafka broker of one node (KRaft), of Maven's packages: started on free ports, in a folder of its own."""

from __future__ import annotations

import base64
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from .maven import jars, java

#: The broker. Spark's connector is of the newest Spark that has one there; it runs on 4.3, too.
BROKER = "org.apache.kafka:kafka_2.13:4.1.0"
SPARK_CONNECTOR = "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0"
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 20
#: Characters, of the end, of what Kafka prints that an error tells.
_WORDS_MAX = 2000
#: Reads what nobody writes: the end of that pipe is the end of the process that started it. Then the broker ends, and
#: its folder goes: that process may have been killed.
_WATCHER = """
folder=$1
shift
"$@" > broker.out 2>&1 < /dev/null &
broker=$!
read -r _
kill "$broker"
wait "$broker"
cd / && rm -rf -- "$folder"
"""


@contextmanager
def running_broker(settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """The address (`127.0.0.1:port`) of a broker, which is ended, and its data removed, when the block is left.

    Both happens also when this process dies, even by SIGKILL. Raises as `prepare_broker`, and RuntimeError if it does
    not listen within a minute.
    """
    with tempfile.TemporaryDirectory(prefix="bowstring-kafka-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        command, address = prepare_broker(folder, ["-Xmx512m"], settings or {})
        watcher = ["sh", "-c", _WATCHER, "sh", str(folder), *command]
        with subprocess.Popen(watcher, stdin=subprocess.PIPE, cwd=folder) as process:
            try:
                wait_until_it_listens(process, address, folder)
                yield address
            finally:
                assert process.stdin is not None
                process.stdin.close()
                try:
                    process.wait(STOP_SECONDS_MAX)
                except subprocess.TimeoutExpired:
                    process.kill()


def prepare_broker(folder: Path, options: Sequence[str], settings: Mapping[str, str]) -> tuple[list[str], str]:
    """The command that runs a broker whose files are in `folder`, which is formatted for it, and its address.

    `options` are the JVM's, `settings` Kafka's beyond those that one node needs. Raises RuntimeError if Kafka's
    packages cannot be fetched, and with Kafka's last words if it refuses the settings.
    """
    listen, control = _free_ports()
    file = folder / "server.properties"
    file.write_text(
        "".join(f"{name}={value}\n" for name, value in (_one_node(folder, listen, control) | settings).items())
    )
    run = [java(), *options, f"-Dkafka.logs.dir={folder}", "-cp", ":".join(str(one) for one in jars(BROKER))]
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    formatting = [*run, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config", str(file)]
    done = subprocess.run(
        formatting,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=folder,
    )
    if done.returncode != 0:
        raise RuntimeError(f"Kafka cannot format the broker's folder:\n{done.stdout[-_WORDS_MAX:]}")
    return [*run, "kafka.Kafka", str(file)], f"127.0.0.1:{listen}"


def wait_until_it_listens(process: subprocess.Popen, address: str, folder: Path) -> None:
    """Returns once the broker takes connections; what it prints is in `broker.out` of its folder.

    Raises RuntimeError with its last words if it ends before, or after a minute.
    """
    host, port = address.split(":")
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                said = (folder / "broker.out").read_text()[-_WORDS_MAX:]
                raise RuntimeError(f"the Kafka broker does not listen:\n{said}") from error
            time.sleep(0.1)
        else:
            return


def _one_node(folder: Path, listen: int, control: int) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{control}",
        "listeners": f"PLAINTEXT://127.0.0.1:{listen},CONTROLLER://127.0.0.1:{control}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(folder / "log"),
        "offsets.topic.replication.factor": "1",
        "group.initial.rebalance.delay.ms": "0",
        "log.segment.delete.delay.ms": "1000",
        "file.delete.delay.ms": "1000",
    }


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]

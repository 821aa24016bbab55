"""Connections to coordinators: one per process and address, and who owns an embedded one."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import bowstring
from bowstring.securing import SECURITY_NAMES, travelling

from .options import SECURITY_OPTIONS, SinkOptions, SourceOptions, StreamLimits

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Embedded coordinators hold their data in this process: they live until they are closed, whoever forgets them.
_embedded: set[bowstring.StreamCoordinator] = set()
_clients: dict[tuple[Any, ...], bowstring.Client] = {}
_lock = threading.Lock()


def client_of(options: SinkOptions | SourceOptions) -> bowstring.Client:
    """The process's client for the coordinator of a sink or source; Spark reuses its Python workers, so this pays."""
    key = (os.getpid(), options.url, options.local_socket, options.security)
    with _lock:
        if key not in _clients:
            ways: dict[str, Any] = dict(options.security)
            _clients[key] = bowstring.connect(
                options.url, timeout=options.connect_timeout, local_socket=options.local_socket, **ways
            )
        return _clients[key]


def ensure_stream(client: bowstring.Client, stream: str, limits: StreamLimits, schema: Any = None) -> dict[str, Any]:
    """The stream's description; it is created if it does not exist.

    Raises ValueError if it exists with another number of partitions than asked for.
    """
    try:
        found = client.describe_stream(stream)
    except bowstring.StreamNotFound:
        found = client.create_stream(
            stream,
            schema=schema,
            partitions=limits.partitions,
            max_buffered_batches=limits.max_buffered_batches,
            max_buffered_bytes=limits.max_buffered_bytes,
            max_spool_bytes=limits.max_spool_bytes,
            if_not_exists=True,
        )
    there = partition_count(found)
    if limits.partitions not in (None, there):
        raise ValueError(
            f"stream {stream!r} has {there} partitions, but {limits.partitions} were asked for; "
            "leave the option out, or use another stream"
        )
    return found


def partition_count(description: dict[str, Any]) -> int:
    """The number of partitions in a stream's description."""
    return int(description["options"]["partitions"])


@dataclass
class Attached:
    """A coordinator that a query or a source uses."""

    client: bowstring.Client
    #: The embedded coordinator that was started for it, if none was given.
    owned: bowstring.StreamCoordinator | None

    @property
    def url(self) -> str:
        """Where executors and consumers find it."""
        return self.client.url

    @property
    def options(self) -> dict[str, str]:
        """The same as options of the format: what secures the client goes with it.

        Raises `InvalidArgument` for a client with `token`.
        """
        spark = dict(zip(SECURITY_NAMES, SECURITY_OPTIONS, strict=True))
        return {"url": self.url} | {spark[name]: value for name, value in travelling(self.client._security).items()}

    def close(self) -> None:
        """Stops the coordinator if it was started for this use."""
        if self.owned is not None:
            _embedded.discard(self.owned)
            self.owned.stop()


def attach(coordinator: Any, spark: SparkSession, limits: StreamLimits) -> Attached:
    """The coordinator that was given (embedded one, client or URL), or a new one in this process."""
    if isinstance(coordinator, str):
        return Attached(bowstring.connect(coordinator), None)
    if isinstance(coordinator, bowstring.Client):
        return Attached(coordinator, None)
    if coordinator is not None:
        return Attached(coordinator.client(), None)
    owned = bowstring.StreamCoordinator(**_reachable_from_executors(spark), **_given(limits))
    _embedded.add(owned)
    return Attached(owned.client(), owned)


def _given(limits: StreamLimits) -> dict[str, Any]:
    names = ("max_buffered_batches", "max_buffered_bytes", "max_spool_bytes")
    return {name: value for name in names if (value := getattr(limits, name)) is not None}


def _reachable_from_executors(spark: SparkSession) -> dict[str, Any]:
    """Loopback serves local mode; a cluster's executors come to the host that Spark tells them for its driver."""
    if is_connect(spark):
        raise ValueError(
            "with Spark Connect the executors cannot reach a coordinator inside this process; "
            "start one where they can (bowstring serve) and pass coordinator='grpc://host:port'"
        )
    context = spark.sparkContext
    master = context.master or "local"
    if master.startswith("local") and not master.startswith("local-cluster"):
        return {}
    host = context.getConf().get("spark.driver.host")
    # Spark's own ports are as open, unless it was told that they are not to be.
    is_open = context.getConf().get("spark.authenticate", "false").lower() != "true"
    return {"listen": "0.0.0.0:0", "advertise_host": host, "insecure": is_open}


def is_connect(spark: SparkSession) -> bool:
    """Whether this is a Spark Connect session, which has no JVM in this process."""
    return type(spark).__module__.startswith("pyspark.sql.connect")

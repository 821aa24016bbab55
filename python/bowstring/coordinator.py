"""The coordinator inside this process, and DRLS's view of a stream."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from bowstring import _native
from bowstring.client import Client
from bowstring.errors import Timeout
from bowstring.looking import consumer_cursors

if TYPE_CHECKING:
    from typing_extensions import Self


class StreamCoordinator:
    """A whole coordinator on threads of its own: buffers, routes, serves Arrow Flight, control calls and metrics.

    Without a `data_dir` nothing of it survives the process. A context manager: leaving it stops it.

    Args:
        listen: address of the data and control plane; port 0 picks a free one. What others than this host
            reach needs TLS, or `insecure`.
        http: address of /metrics, /healthz and /readyz; None for none.
        unix: a Unix socket that gives the same as `listen`: "auto" for one in a private folder, a path of at most 107
            bytes, or None for none. Clients on this host find it by themselves.
        shared_memory: whether batches may stay in their producer's memory, where this user's consumers on this host
            look at them. Needs the Unix socket, and Linux.
        advertise_host: host that `url` names, where `listen` is not what others can reach.
        tls_cert, tls_key: PEM files of the server's certificate and its private key: both ports speak TLS then, and
            `url` is `grpc+tls://host:port`. They are read again when they change.
        tls_client_ca: PEM file of the CAs that clients' certificates must come from; None lets in clients without.
        insecure: listen without TLS where others than this host reach it; anybody there can read and append then.
        data_dir: folder in which streams are durable: what is confirmed survives the process, and power loss. None
            keeps everything in memory.
        object_store: URL of the object store in which durable streams are as well: `s3://bucket/prefix`,
            `gs://bucket/prefix`, `az://container/prefix` or `file:///folder`. What is confirmed survives the machine,
            and this coordinator takes over from the one that had it before. Credentials come from the usual environment
            variables (`AWS_...`, `GOOGLE_...`, `AZURE_...`). Needs a `data_dir`, which is empty or of this store.
        max_buffered_batches, max_buffered_bytes, max_spool_bytes, max_disk_bytes: defaults of streams that are created
            without.
        max_wait_seconds, resume_percent: likewise: how long an append waits for room before it is refused (0, the
            default: as long as its producer does), and how far a stream that was full has to fall, in percent of its
            limits (100: until there is room), before appends go on.
        spool_dir: folder for what does not fit in memory; the system's folder for temporary files by default.
        default_partitions: of streams that are created without saying.
        auth_tokens: file of tokens, as `bowstring token issue` writes it: callers from other processes need one of them
            then. None: nobody is asked.
        audit_file: file to whose end it is written who was let do what, or "stderr"; None for none.
        ingest: by stream, what rows it takes over HTTP: `{"clicks": {"format": "json", "rejected_to": "clicks.bad",
            "aliases": {"user_id": ["uid"]}}}`; docs/formats.md lists what can be declared. None: no stream takes any.
        otlp_endpoint: OpenTelemetry collector that gets a trace of each epoch, by OTLP over gRPC, as
            `http://127.0.0.1:4317`; None for none.
        trace_one_in: one epoch of so many is traced, at least 1.
        append_timeout: seconds that an append waits for room unless its producer says otherwise.
        validation: how closely a batch is looked at before it is stored: "structure", its header against its body and
            the schema; or "full", every value that readers follow without looking, which costs what decoding costs, and
            protects pyarrow from producers that you do not trust (docs/security.md).

    Raises:
        InvalidArgument: an address, number or folder that cannot be used, or a folder that another coordinator uses.
    """

    def __init__(
        self,
        *,
        listen: str = "127.0.0.1:0",
        http: str | None = "127.0.0.1:0",
        unix: str | None = "auto",
        shared_memory: bool = True,
        advertise_host: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        tls_client_ca: str | None = None,
        insecure: bool = False,
        max_buffered_batches: int = 64,
        max_buffered_bytes: int = 2 * 1024**3,
        max_spool_bytes: int | None = None,
        max_disk_bytes: int | None = None,
        max_wait_seconds: float | None = None,
        resume_percent: int | None = None,
        data_dir: str | None = None,
        object_store: str | None = None,
        spool_dir: str | None = None,
        default_partitions: int = 1,
        append_timeout: float | None = None,
        validation: Literal["structure", "full"] = "structure",
        auth_tokens: str | None = None,
        audit_file: str | None = None,
        ingest: Mapping[str, Mapping[str, Any]] | None = None,
        otlp_endpoint: str | None = None,
        trace_one_in: int = 1,
    ) -> None:
        self._native = _native.Server(
            {
                "listen": listen,
                "http": http,
                "unix": unix,
                "shared_memory": shared_memory,
                "advertise_host": advertise_host,
                "tls_cert": tls_cert,
                "tls_key": tls_key,
                "tls_client_ca": tls_client_ca,
                "insecure": insecure,
                "max_buffered_batches": max_buffered_batches,
                "max_buffered_bytes": max_buffered_bytes,
                "max_spool_bytes": max_spool_bytes,
                "max_disk_bytes": max_disk_bytes,
                "max_wait_seconds": max_wait_seconds,
                "resume_percent": resume_percent,
                "data_dir": data_dir,
                "object_store": object_store,
                "spool_dir": spool_dir,
                "default_partitions": default_partitions,
                "append_timeout": append_timeout,
                "validation": validation,
                "auth_tokens": auth_tokens,
                "audit_file": audit_file,
                "ingest": None if ingest is None else json.dumps(_plain(ingest)),
                "otlp_endpoint": otlp_endpoint,
                "trace_one_in": trace_one_in,
            }
        )
        self._client: Client | None = None

    @property
    def url(self) -> str:
        """What clients connect to: `grpc://host:port`, or `grpc+tls://host:port`."""
        return self._native.url

    @property
    def unix_url(self) -> str | None:
        """The Unix socket as a URL, `grpc+unix:///path`: what stock Flight clients are given."""
        return self._native.unix_url

    @property
    def http_url(self) -> str | None:
        """Where /metrics, /healthz and /readyz are."""
        return self._native.http_url

    def client(self) -> Client:
        """A connection to this coordinator; the same one at each call."""
        if self._client is None:
            self._client = Client(self.url)
        return self._client

    def stop(self, grace: float = 5.0) -> None:
        """Stops: consumers and producers are told, calls under way get `grace` seconds. A second call does nothing."""
        self._native.stop(grace)

    def get_stats(self, stream: str | None = None) -> dict[str, Any]:
        """A stream's stats with DRLS's keys beside bowstring's; without a name the only stream's, or all by name."""
        stats = self.client().get_stats(stream)
        streams = {one["stream"]: with_drls_keys(one) for one in stats["streams"]}
        if len(streams) == 1:
            return next(iter(streams.values()))
        return {
            "streams": streams,
            "uptime_micros": stats["uptime_micros"],
            "open_connections": stats["open_connections"],
            "open_unix_connections": stats["open_unix_connections"],
        }

    def wait_for_drain(self, timeout: float, stream: str | None = None) -> None:
        """Waits until every subscription has acked all that is visible. Raises `Timeout` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            streams = self.client().get_stats(stream)["streams"]
            behind = {one["stream"]: lag for one in streams if (lag := lag_batches(one)) > 0}
            if not behind:
                return
            if time.monotonic() > deadline:
                raise Timeout(
                    f"not drained within {timeout} s: batches not acked are {behind}; wait longer", "timeout", True
                )
            time.sleep(0.05)

    def signal_complete(self, stream: str) -> None:
        """DRLS's name for `Client.complete_stream`."""
        self.client().complete_stream(stream)

    def signal_error(self, stream: str, reason: str) -> None:
        """DRLS's name for `Client.fail_stream`."""
        self.client().fail_stream(stream, reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<bowstring.StreamCoordinator at {self.url}>"


def _plain(declared: Any) -> Any:
    """What is declared, as JSON has it: paths are texts, and any mapping or sequence is one."""
    if isinstance(declared, Mapping):
        return {str(name): _plain(value) for name, value in declared.items()}
    if isinstance(declared, os.PathLike):
        return os.fspath(declared)
    if isinstance(declared, Sequence) and not isinstance(declared, (str, bytes)):
        return [_plain(value) for value in declared]
    return declared


def lag_batches(stats: Mapping[str, Any]) -> int:
    """Batches that some subscription has not acked: the most of any subscription, all if there is none."""
    if not stats["subscriptions"]:
        return sum(one["end"] - one["start"] for one in stats["partitions"])
    lags: list[int] = [sum(place["lag_batches"] for place in one["partitions"]) for one in stats["subscriptions"]]
    return max(lags)


def with_drls_keys(stats: dict[str, Any]) -> dict[str, Any]:
    """A stream's stats with the keys that DRLS's users know."""
    return stats | {
        "batches_published": stats["appended_batches"],
        "batches_gc": stats["dropped_batches"],
        "buffer_size": stats["buffered_batches"],
        "max_buffered": stats["options"]["max_buffered_batches"],
        "max_buffered_bytes": stats["options"]["max_buffered_bytes"],
        "num_consumers": stats["readers"],
        "consumer_cursors": consumer_cursors(stats),
        "complete": stats["state"] == "completed",
        "error": stats["reason"] or None,
        # Spark gives a sink no watermark in this version's paths.
        "latest_watermark": None,
    }

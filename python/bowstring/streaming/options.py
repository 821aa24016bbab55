"""Options of ``format("bowstring")``: names, defaults and checks. Spark hands all values over as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bowstring.securing import SECURITY_NAMES
from bowstring.tracing import checked_traceparent

from .routing import Routing

#: What Spark itself adds to the options of a sink or source; nothing for us to look at.
_OF_SPARK = {"checkpointlocation", "queryname", "outputmode", "truncate", "numrows", "asyncprogresstrackingenabled"}


@dataclass(frozen=True)
class StreamLimits:
    """Options of a stream that does not exist yet; None takes the coordinator's default."""

    partitions: int | None = None
    max_buffered_batches: int | None = None
    max_buffered_bytes: int | None = None
    max_spool_bytes: int | None = None


@dataclass(frozen=True)
class SinkOptions:
    """``df.writeStream.format("bowstring")`` and ``df.write.format("bowstring")``."""

    url: str
    stream: str
    limits: StreamLimits
    routing: Routing
    #: Seconds that an append may wait for room; None waits as long as it takes.
    append_timeout: float | None
    #: "none", "auto", "lz4" or "zstd".
    compression: str
    connect_timeout: float
    #: Whether data goes by the Unix socket of a coordinator on the same host.
    local_socket: bool
    #: The arguments of `connect` that say what secures it.
    security: tuple[tuple[str, str], ...]
    #: Who writes, if it is not Spark's streaming query: for batch writes that may be repeated.
    producer: str | None
    run: str | None
    epoch: int | None
    #: What a batch write's driver works at, as W3C Trace Context's header: the epoch's trace links to it.
    traceparent: str | None
    #: Whether rows are appended as they come, at least once, and not as epochs; None leaves it to the query's trigger.
    real_time: bool | None
    #: Seconds in which at most one batch goes out then; None takes the JVM connector's default.
    real_time_linger: float | None


@dataclass(frozen=True)
class SourceOptions:
    """``spark.readStream.format("bowstring")``."""

    url: str
    stream: str
    #: A cursor to share or resume; None gives each query one of its own, kept in its checkpoint.
    subscription: str | None
    #: "earliest", "latest", or partition -> offset.
    start: str | dict[int, int]
    #: What a new subscription does that holds room which an append needs: "hold" or "evict".
    on_overflow: str
    max_batches: int | None
    max_bytes: int | None
    connect_timeout: float
    #: Whether data goes by the Unix socket of a coordinator on the same host.
    local_socket: bool
    #: The arguments of `connect` that say what secures it.
    security: tuple[tuple[str, str], ...]
    #: Whether the query fails when the producer is lost and all of its data has been read.
    fail_on_producer_lost: bool
    #: Whether the stream is completed when the query ends, so that its producer does not wait for a reader in vain.
    complete_on_stop: bool


#: How `connect` calls them in `SECURITY_NAMES`.
SECURITY_OPTIONS = ("tlsCa", "tlsCert", "tlsKey", "tlsServerName", "tokenFile")
_COMMON = ("url", "stream", "path", "connectTimeout", "localSocket", *SECURITY_OPTIONS)
SINK_NAMES = (
    *_COMMON, "partitions", "routing", "maxBufferedBatches", "maxBufferedBytes", "maxSpoolBytes", "appendTimeout",
    "compression", "producer", "run", "epoch", "traceparent", "realTime", "realTimeLinger",
)  # fmt: skip
SOURCE_NAMES = (
    *_COMMON, "subscription", "startingOffsets", "maxBatchesPerTrigger", "maxBytesPerTrigger", "failOnProducerLost",
    "completeOnStop", "onOverflow",
)  # fmt: skip


def sink_options(given: Mapping[str, Any]) -> SinkOptions:
    """Reads a sink's options.

    Raises ValueError that names what is wrong and what is known.
    """
    read = _Reader(given, SINK_NAMES)
    if read.number("epoch", least=0) is not None and not read.text("producer"):
        raise ValueError("option 'epoch' needs option 'producer' too: an epoch is a number among one producer's")
    return SinkOptions(
        url=read.url(),
        stream=read.stream(),
        limits=StreamLimits(
            partitions=read.number("partitions", least=1),
            max_buffered_batches=read.number("maxBufferedBatches", least=1),
            max_buffered_bytes=read.number("maxBufferedBytes", least=1),
            max_spool_bytes=read.number("maxSpoolBytes", least=0),
        ),
        routing=Routing.parse(read.text("routing") or "spark"),
        append_timeout=read.seconds("appendTimeout"),
        compression=read.one_of("compression", ("none", "auto", "lz4", "zstd")),
        connect_timeout=read.seconds("connectTimeout") or 10.0,
        local_socket=read.truth("localSocket", default=True),
        security=read.security(),
        producer=read.text("producer"),
        run=read.text("run"),
        epoch=read.number("epoch", least=0),
        traceparent=checked_traceparent(read.text("traceparent")),
        real_time=read.truth("realTime", default=False) if read.text("realTime") else None,
        real_time_linger=read.seconds("realTimeLinger"),
    )


def source_options(given: Mapping[str, Any]) -> SourceOptions:
    """Reads a source's options.

    Raises ValueError that names what is wrong and what is known.
    """
    read = _Reader(given, SOURCE_NAMES)
    return SourceOptions(
        url=read.url(),
        stream=read.stream(),
        subscription=read.text("subscription"),
        start=_start(read.text("startingOffsets") or "earliest"),
        on_overflow=_on_overflow(read),
        max_batches=read.number("maxBatchesPerTrigger", least=1),
        max_bytes=read.number("maxBytesPerTrigger", least=1),
        connect_timeout=read.seconds("connectTimeout") or 10.0,
        local_socket=read.truth("localSocket", default=True),
        security=read.security(),
        fail_on_producer_lost=read.truth("failOnProducerLost", default=True),
        complete_on_stop=read.truth("completeOnStop", default=False),
    )


def _on_overflow(read: _Reader) -> str:
    if (read.text("onOverflow") or "").lower() == "skip":
        raise ValueError(
            "option 'onOverflow' is 'skip', but Spark may read what it has planned once more, and skipped batches are "
            "gone by then; use hold, or evict, which ends the query with an error"
        )
    return read.one_of("onOverflow", ("hold", "evict"))


def _start(text: str) -> str | dict[int, int]:
    if text in ("earliest", "latest"):
        return text
    try:
        offsets = {int(partition): int(offset) for partition, offset in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        offsets = {-1: -1}
    if any(number < 0 for entry in offsets.items() for number in entry):
        raise ValueError(
            f'option \'startingOffsets\' is {text!r}; use earliest, latest, or JSON like {{"0": 12, "1": 7}}'
        )
    return offsets


class _Reader:
    """Looks names up whatever their case, as Spark does, and refuses those that mean nothing."""

    def __init__(self, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
        self._given = {str(name).lower(): str(value).strip() for name, value in dict(given).items()}
        unknown = sorted(set(self._given) - {name.lower() for name in known} - _OF_SPARK)
        if unknown:
            raise ValueError(
                f'format("bowstring") does not know the option {", ".join(map(repr, unknown))}; '
                f"it knows: {', '.join(known)}"
            )

    def text(self, name: str) -> str | None:
        return self._given.get(name.lower()) or None

    def url(self) -> str:
        url = self.text("url")
        if url is None:
            raise ValueError(
                "format(\"bowstring\") needs option 'url', for instance grpc://127.0.0.1:8815: "
                "where the coordinator listens"
            )
        return url

    def security(self) -> tuple[tuple[str, str], ...]:
        found = ((name, self.text(option)) for name, option in zip(SECURITY_NAMES, SECURITY_OPTIONS, strict=True))
        return tuple((name, text) for name, text in found if text is not None)

    def stream(self) -> str:
        stream = self.text("stream") or self.text("path")
        if stream is None:
            raise ValueError("format(\"bowstring\") needs option 'stream': the stream's name on the coordinator")
        return stream

    def number(self, name: str, *, least: int) -> int | None:
        text = self.text(name)
        if text is None:
            return None
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise ValueError(f"option {name!r} is {text!r}; it has to be a whole number of at least {least}")
        return value

    def seconds(self, name: str) -> float | None:
        text = self.text(name)
        if text is None:
            return None
        try:
            value = float(text.removesuffix("s"))
        except ValueError:
            value = 0.0
        if not 0.0 < value < float("inf"):
            raise ValueError(f"option {name!r} is {text!r}; it has to be a number of seconds above 0")
        return value

    def truth(self, name: str, *, default: bool) -> bool:
        text = self.text(name)
        if text is None:
            return default
        if text.lower() not in ("true", "false"):
            raise ValueError(f"option {name!r} is {text!r}; it has to be true or false")
        return text.lower() == "true"

    def one_of(self, name: str, known: tuple[str, ...]) -> str:
        """The first is the default."""
        text = (self.text(name) or known[0]).lower()
        if text not in known:
            raise ValueError(f"option {name!r} is {text!r}; use one of: {', '.join(known)}")
        return text

"""A connection to a coordinator: control verbs, and what appends and reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bowstring import _native
from bowstring.appending import EpochWriter, Producer
from bowstring.errors import InvalidArgument
from bowstring.looking import Peek, StreamLag, Why, lag_of, why_of, with_origin, with_schema
from bowstring.reading import consumer_arguments, unpacked
from bowstring.securing import Token, security, travelling
from bowstring.sharing import Sharing
from bowstring.starts import Moved, PartitionMove, Start, start_text
from bowstring.subscription import Subscription
from bowstring.tracing import current_traceparent

if TYPE_CHECKING:
    from bowstring.iterator import StreamingIterator


def connect(
    url: str,
    *,
    timeout: float = 10.0,
    retry_deadline: float = 60.0,
    local_socket: bool = True,
    shared_memory: bool = True,
    tls_ca: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    tls_server_name: str | None = None,
    token: Token | None = None,
    token_file: str | None = None,
) -> Client:
    """Connects to the coordinator at `url` (`grpc://host:port`, `grpc+tls://host:port`, or `grpc+unix:///path`).

    Keeps trying for `timeout` seconds. Later, calls keep trying for `retry_deadline` seconds while the coordinator
    cannot be reached. With `local_socket`, data goes by the Unix socket of a coordinator that is on the same host; with
    `shared_memory`, the bodies of its batches stay in the producer's memory then, if it is this user's.
    With `grpc+tls`, `tls_ca` is the file of the CAs that may have signed the coordinator's certificate (by default
    those that this machine trusts), `tls_cert` and `tls_key` are the client's own certificate, where the coordinator
    asks for one, and `tls_server_name` is the name in the coordinator's certificate, if it is not the URL's host. The
    files are PEM, and read again for each connection. They travel as paths: each process reads its own.
    Where the coordinator asks who calls, `token_file` is the file that has the token, read again when it changes and
    when a token was refused; or `token` is the token, or a function that gives the newest: it is asked when a token was
    refused, and twice a minute, by threads of the client, and must not take long. Without either it is the environment
    that says so (`BOWSTRING_TOKEN`, `BOWSTRING_TOKEN_FILE`). A client with `token` does not pickle. Every call raises
    `Unauthenticated` if the coordinator does not know the token, `PermissionDenied` if it does not let what is asked.
    Raises `Unavailable` or `InvalidArgument`.
    """
    return Client(
        url,
        timeout=timeout,
        retry_deadline=retry_deadline,
        local_socket=local_socket,
        shared_memory=shared_memory,
        tls_ca=tls_ca,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_server_name=tls_server_name,
        token=token,
        token_file=token_file,
    )


class Client:
    """A connection to a coordinator. Every method may raise `Unavailable`. Pickles by its URL, but not with `token`."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 10.0,
        retry_deadline: float = 60.0,
        local_socket: bool = True,
        shared_memory: bool = True,
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        tls_server_name: str | None = None,
        token: Token | None = None,
        token_file: str | None = None,
    ) -> None:
        self._security = security(tls_ca, tls_cert, tls_key, tls_server_name, token_file, token)
        self._options: dict[str, Any] = {"retry_deadline": retry_deadline, "local_socket": local_socket}
        self._options |= {"shared_memory": shared_memory, **self._security}
        self._timeout = timeout
        self._native = _native.Client(url, timeout, retry_deadline, local_socket, shared_memory, self._security)

    @property
    def url(self) -> str:
        """The coordinator's URL."""
        return self._native.url

    def __reduce__(self) -> tuple[Any, ...]:
        travelling(self._options)
        return _reconnect, (self.url, {"timeout": self._timeout, **self._options})

    def __repr__(self) -> str:
        return f"bowstring.connect({self.url!r})"

    def create_stream(
        self,
        stream: str,
        *,
        schema: pa.Schema | None = None,
        partitions: int | None = None,
        max_buffered_batches: int | None = None,
        max_buffered_bytes: int | None = None,
        max_spool_bytes: int | None = None,
        max_disk_bytes: int | None = None,
        retain_seconds: float | None = None,
        retain_bytes: int | None = None,
        visibility: str | None = None,
        full_policy: str | None = None,
        max_wait_seconds: float | None = None,
        resume_percent: int | None = None,
        schema_policy: str | None = None,
        if_not_exists: bool = False,
    ) -> dict[str, Any]:
        """Creates a stream and describes it; what is left out takes the coordinator's defaults.

        Batches that every subscription has acked stay, to be read again, for `retain_seconds` after they were appended,
        and while they are of the newest `retain_bytes`; by default they go at once.
        `schema` defaults to the first producer's. `visibility` is "committed" or "immediate", `full_policy` "wait",
        "reject", "spill" or "drop_oldest", `schema_policy` what of the schema may change: "strict" (nothing),
        "additive" (new columns) or "widening" (wider types too). An append waits for room for `max_wait_seconds` (0: as
        long as its client does), then `BufferFull`; once appends had to wait they go on when the stream has fallen to
        `resume_percent` of its limits. Raises `StreamExists` unless `if_not_exists` and the options are the same,
        `InvalidArgument`.
        """
        arguments = {
            "schema": schema,
            "partitions": partitions,
            "max_buffered_batches": max_buffered_batches,
            "max_buffered_bytes": max_buffered_bytes,
            "max_spool_bytes": max_spool_bytes,
            "max_disk_bytes": max_disk_bytes,
            "retain_ms": None if retain_seconds is None else round(retain_seconds * 1000),
            "retain_bytes": retain_bytes,
            "visibility": visibility,
            "full_policy": full_policy,
            "max_wait_ms": None if max_wait_seconds is None else round(max_wait_seconds * 1000),
            "resume_percent": resume_percent,
            "schema_policy": schema_policy,
            "if_not_exists": if_not_exists,
        }
        return with_schema(self._native.create_stream(stream, arguments))

    def describe_stream(self, stream: str) -> dict[str, Any]:
        """The stream's options, state, partitions, subscriptions with their lag, producers and who waits.

        Names are those of StreamDescription in proto/bowstring/v1/control.proto. Raises `StreamNotFound`.
        """
        return with_schema(self._native.describe_stream(stream))

    def list_streams(self) -> list[dict[str, Any]]:
        """All streams' descriptions, by name."""
        return [with_schema(description) for description in self._native.list_streams()]

    def delete_stream(self, stream: str) -> None:
        """Deletes the stream with everything in it. Raises `StreamNotFound`."""
        self._native.delete_stream(stream)

    def complete_stream(self, stream: str) -> None:
        """Ends the stream in good order: readers get what is there, then the end. Raises `StreamFailed`."""
        self._native.complete_stream(stream)

    def fail_stream(self, stream: str, reason: str) -> None:
        """Ends the stream with an error: readers get what is there, then `StreamFailed`."""
        self._native.fail_stream(stream, reason)

    def open_epoch(self, stream: str, producer: str, run: str, epoch: int) -> str:
        """Opens an epoch, also one that was aborted: "open", or "already_committed" if nothing has to be sent.

        Raises `Fenced`.
        """
        return self._native.open_epoch(stream, producer, run, epoch)

    def commit_epoch(self, stream: str, producer: str, run: str, epoch: int, receipts: Sequence[bytes]) -> str:
        """Makes what the receipts name visible, all at once: "committed", or "already_committed" for a replay.

        Its trace links to OpenTelemetry's current span. Raises `EpochError` if a receipt is unknown, `Fenced`.
        """
        return self._native.commit_epoch(stream, producer, run, epoch, list(receipts), current_traceparent())

    def abort_epoch(self, stream: str, producer: str, run: str, epoch: int) -> str:
        """Drops what was staged for the epoch: "aborted", or "already_committed".

        Writers of this run are refused (`EpochError`) until the epoch is opened again. Raises `Fenced`.
        """
        return self._native.abort_epoch(stream, producer, run, epoch)

    def keep_producer(self, stream: str, producer: str, run: str, lease: float) -> None:
        """A sign of life, good for `lease` seconds (at most 3600); 0 says goodbye. Raises `Fenced`."""
        self._native.keep_producer(stream, producer, run, lease)

    def subscribe(
        self,
        stream: str,
        subscription: str,
        start: Start = "earliest",
        *,
        on_overflow: str = "hold",
        mode: str | None = None,
        sharing: Sharing | None = None,
        query: str | None = None,
    ) -> dict[str, Any]:
        """Creates the subscription, or takes the one that exists as it is; describes it.

        `start` is "earliest", "latest", a dict of partition to offset (partitions that it does not name start at the
        earliest), a datetime with a zone (the first batch that was appended at or after it), or a `bowstring.Epoch`;
        or one of them as text: "0:100,1:50", "2026-11-01T12:00:00Z", "epoch:7", "epoch:7@PRODUCER".

        `on_overflow` is what a new one does that holds room which an append needs: "hold" it, "skip" its oldest batches
        (its consumers are told how many), or "evict": it is evicted, and its consumers get `SubscriptionEvicted` until
        a seek. `mode` is how its consumers divide its batches: "static", by themselves, "partitioned", by leases on
        partitions, or "shared", by leases on rows, as `sharing` says; one that exists must do the same.
        `query` is what it asks of each batch, in SQL: consumers get the answers (docs/queries.md); one that exists must
        ask the same.

        Raises `OffsetError` if something behind the start is no longer kept, or if it is too far ahead;
        `InvalidArgument`; `StreamNotFound`.
        """
        rules = None if sharing is None else sharing.arguments()
        return self._native.subscribe(stream, subscription, start_text(start), on_overflow, mode, rules, query)

    def unsubscribe(self, stream: str, subscription: str) -> None:
        """Removes the subscription; what only it held back is dropped."""
        self._native.unsubscribe(stream, subscription)

    def ack(self, stream: str, subscription: str, offsets: Mapping[int, int], stream_id: int | None = None) -> None:
        """Done with all batches before these offsets, by partition. Raises `OffsetError` beyond the end."""
        self._native.ack(stream, subscription, dict(offsets), stream_id)

    def plan(self, stream: str, subscription: str, offsets: Mapping[int, int], stream_id: int | None = None) -> None:
        """What lies before these offsets will be acked, but only later: it no longer holds back producers."""
        self._native.plan(stream, subscription, dict(offsets), stream_id)

    def seek(
        self, stream: str, subscription: str, start: Start, dry_run: bool = False, *, stream_id: int | None = None
    ) -> Moved:
        """Puts the subscription's cursor elsewhere, forwards or backwards, and says what has moved.

        `start` is as for `subscribe`, but partitions that a dict does not name stay where they are. With `dry_run`
        nothing changes, and the answer says what would move. Iterators that read the subscription go on from there, and
        acks of what they had before count no more. Raises as `subscribe` does.
        """
        moves = self._native.seek(stream, subscription, start_text(start), dry_run, stream_id)
        return Moved(tuple(PartitionMove(*move) for move in moves), dry_run)

    def why(self, stream: str) -> Why:
        """Who waits for whom in the stream, and since when, in sentences: print it. Raises `StreamNotFound`."""
        return why_of(self._native.why(stream))

    def lag(self, stream: str) -> StreamLag:
        """What each subscription has not acked, by partition, for how long, and when it drains: print it.

        Raises `StreamNotFound`.
        """
        return lag_of(stream, self._native.lag(stream))

    def peek(self, stream: str, *, partition: int | None = None, offset: int | None = None, rows: int = 10) -> Peek:
        """At most `rows` rows, with where they are from: print it. Moves nothing and needs no subscription.

        Begins at `offset` of the `partition`, by default at the earliest batch that is kept, of all partitions. An
        `offset` needs a `partition` where the stream has several. Raises `StreamNotFound`, `OffsetError` if that is not
        kept any more or there is no such partition, `InvalidArgument`.
        """
        if offset is not None and partition is None:
            if len(self.describe_stream(stream)["partitions"]) > 1:
                reason = f"stream {stream} has several partitions; say of which one offset {offset} is"
                raise InvalidArgument(reason, "invalid_argument", False)
            partition = 0
        arguments = consumer_arguments(
            partitions=None if partition is None else [partition],
            follow=False,
            offsets=None if partition is None or offset is None else {partition: offset},
            prefetch_batches=1,
        )
        consumer = self._native.consumer(stream, arguments)
        try:
            schema = consumer.schema()
            empty = pa.schema([]) if schema is None else pa.schema(schema)
            tables = [with_origin(pa.RecordBatch.from_pylist([], empty), (0, 0, None, 0, None, None, 0, None, 1, None))]
            left = rows
            while left > 0 and (taken := consumer.take()) is not None:
                batches, counts, sizes, origins, _generation = taken
                for batch, origin in zip(unpacked(batches, counts, sizes), origins, strict=True):
                    shown = batch.slice(0, left)
                    left -= shown.num_rows
                    tables.append(with_origin(shown, origin))
        finally:
            consumer.close()
        return Peek(stream, pa.concat_tables(tables))

    def get_stats(self, stream: str | None = None) -> dict[str, Any]:
        """`streams` (each a description with totals), `version`, `uptime_micros`, `open_connections`.

        `open_unix_connections` are those of them that came by the Unix socket.
        """
        stats = self._native.get_stats(stream)
        stats["streams"] = [with_schema(one) for one in stats["streams"]]
        return stats

    def producer(
        self,
        stream: str,
        *,
        producer_id: str | None = None,
        partition: int | None = None,
        append_timeout: float | None = None,
        keep_alive: float | None = None,
        schema: pa.Schema | None = None,
        compression: str | None = None,
    ) -> Producer:
        """A producer whose batches are visible as soon as they are stored.

        `partition` is that of batches which name none; without it they take turns. An append waits for room at most
        `append_timeout` seconds. With `keep_alive`, readers learn of the producer's loss within so many seconds.
        `compression` of the batches, on their way and in the coordinator: ``"none"`` (default), ``"lz4"``,
        ``"zstd"``, or ``"auto"``: LZ4, but only while the way to the coordinator is slower than compression and the
        batches become smaller by it. Both are measured.
        """
        return Producer(
            self._native.producer(stream, producer_id, partition, append_timeout, keep_alive, schema, compression)
        )

    def writer(
        self,
        stream: str,
        *,
        producer: str,
        run: str,
        epoch: int,
        task: int,
        attempt: int,
        append_timeout: float | None = None,
        compression: str | None = None,
    ) -> EpochWriter:
        """One task attempt of an epoch. Its batches are seen once a commit names its receipt.

        `append_timeout` and `compression` are as for a `producer`.
        """
        return EpochWriter(
            self._native.writer(stream, producer, run, epoch, task, attempt, append_timeout, compression)
        )

    def read(
        self,
        stream: str,
        partition: int,
        start: int,
        end: int,
        *,
        stream_id: int | None = None,
        schema: object | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Exactly the batches [start, end) of a partition, without a subscription; in `schema`, as for an iterator.

        Raises `OffsetError` if they are not all there, `StreamReplaced`, `SchemaMismatch`.
        """
        arguments = consumer_arguments(
            partitions=[partition],
            follow=False,
            offsets={partition: start},
            end={partition: end},
            stream_id=stream_id,
            schema=schema,
        )
        consumer = self._native.consumer(stream, arguments)
        try:
            while (taken := consumer.take()) is not None:
                batches, counts, rows, _origins, _generation = taken
                yield from unpacked(batches, counts, rows)
        finally:
            consumer.close()

    def subscription(self, stream: str, name: str = "default") -> Subscription:
        """A stream's subscription of that name, to be read by batches or by epochs: see `Subscription`."""
        return Subscription(self, stream, name)

    def iterator(self, stream: str, **options: Any) -> StreamingIterator:
        """A `StreamingIterator` over the stream; `options` are its keyword arguments.

        `retry_deadline`, `local_socket`, `shared_memory` and `tls_...`, `token`, `token_file` default to this client's.
        """
        from bowstring.iterator import StreamingIterator

        return StreamingIterator(self.url, stream, **{**self._options, **options})


def _reconnect(url: str, options: Mapping[str, Any]) -> Client:
    return Client(url, **options)

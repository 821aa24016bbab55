"""Reading a stream: batches in order within each partition, acked as you go."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bowstring import _native
from bowstring.client import Client
from bowstring.dialect import Aliases, Strings, TimeUnit, dialect_arguments
from bowstring.errors import InvalidArgument
from bowstring.feeding import Feeding
from bowstring.handles import BatchHandles
from bowstring.reading import Delivered, Origin, consumer_arguments, end_of, rows_of
from bowstring.securing import SECURITY_NAMES, Token, travelling
from bowstring.sharing import Sharing, reason_of
from bowstring.starts import Start

if TYPE_CHECKING:
    from typing_extensions import Self

_STREAM_WAIT = 60.0
_LOGGER = logging.getLogger("bowstring")


class StreamingIterator(Feeding):
    """Iterates over a stream's record batches, read ahead in the background.

    With `auto_ack`, asking for the next batch acks the one before; leaving the `with` block without an exception acks
    the last one. After an exception the last batch is not acked and will be delivered again to the next iterator of
    the subscription. Iterators pickle: the copy starts where the subscription's acks have come to.

    Batches up to 16 KiB may be slices that share up to 32 KiB of memory with their neighbours; pickle writes all of it.

    It ends in four ways: the end of the stream ends the loop, `StreamFailed` after what was there before the failure,
    `Timeout` after `timeout` seconds without a batch, and `ProducerLost`. After the last two it may be asked again. So
    may one that shares a partitioned subscription and has ended while it held batches that it had not acked: once they
    are acked, others' partitions may come to it.

    Args:
        url: the coordinator's.
        stream: the stream's name.
        subscription: the cursor to use, created if it does not exist; None reads without one, and acks nothing.
        partitions: those to read; all by default.
        start: where a new subscription starts, or an iterator without one: "earliest", "latest", a dict of partition to
            offset, a datetime with a zone, or a `bowstring.Epoch`; as for `Client.subscribe`.
        auto_ack: ack a batch when the next one is asked for.
        timeout: seconds to wait for each batch; for ever by default.
        prefetch_batches, prefetch_bytes: how far to read ahead.
        stream_wait: seconds to wait for a stream that does not exist yet.
        follow: wait for new batches until the stream ends; else end with what is there.
        retry_deadline: seconds to keep trying while the coordinator cannot be reached.
        local_socket: read by the Unix socket of a coordinator that is on the same host.
        tls_ca, tls_cert, tls_key, tls_server_name: with `grpc+tls://`, as for `connect`.
        token, token_file: who reads, as for `connect`; an iterator with `token` does not pickle.
        consumer: what it calls itself to whoever asks who reads (`client.why`); this process as "host/pid" by default.
        mode: how a new subscription's consumers divide its batches: "static", "partitioned" (each partition is leased
            to one of them), or "shared" (any of them is given the next rows).
        lease: then, seconds until others have what it has if its process dies: from 0.1 to 3600.
        sharing: how a new shared subscription is shared: when rows go to the dead letters, and what keys they have.
        query: what a new subscription asks of each batch, in SQL, such as "SELECT user, page FROM clicks WHERE page
            LIKE '/buy%'": the answers come in place of the batches, with their offsets (docs/queries.md).
        ack_within: of a shared subscription, seconds in which a batch is to be acked, given back or renewed; then
            others get it, and this iterator gets nothing more before it is asked. From 0.1 to 86,400.
        max_rows: of a shared subscription, most rows of a batch; larger ones are divided among consumers.
        schema: the columns to read and their types, whatever producers send (docs/schemas.md); one that a batch lacks
            is null. By default what the stream has when the iterator opens: what changes later changes nothing here.
        aliases: a dict of a column's name to other names that it has in batches: they become one column.
        strings: "plain", "large" or "view": how strings and binary values lie in memory, where no `schema` says it.
        time_zone: the zone of all timestamps that have one, such as "Europe/Berlin"; likewise.
        time_unit: "s", "ms", "us" or "ns", the unit of all timestamps, which a coarser one cuts; likewise.
        shared_memory: look at batches in their producer's memory then, rather than receive them. A batch that is held
            stays there, acked or not.
        target_rows, target_bytes: what a batch should have at most, and nearly: small ones of a partition and epoch are
            put together, large ones cut in even parts, each in memory of its own; as they come by default.
        linger: with a target, seconds that a small batch waits for others.
        max_in_flight_batches, max_in_flight_bytes: most that is given and not acked: the next batch waits for acks, up
            to `timeout`, which says so. No limit by default; with `auto_ack` one batch is in flight at most.
    """

    def __init__(
        self,
        url: str,
        stream: str,
        *,
        subscription: str | None = "default",
        partitions: Sequence[int] | None = None,
        start: Start = "earliest",
        auto_ack: bool = True,
        timeout: float | None = None,
        prefetch_batches: int = 8,
        prefetch_bytes: int = 64 << 20,
        stream_wait: float = _STREAM_WAIT,
        follow: bool = True,
        retry_deadline: float = 60.0,
        local_socket: bool = True,
        shared_memory: bool = True,
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        tls_server_name: str | None = None,
        token: Token | None = None,
        token_file: str | None = None,
        consumer: str | None = None,
        mode: str | None = None,
        lease: float = 10.0,
        sharing: Sharing | None = None,
        query: str | None = None,
        ack_within: float = 30.0,
        max_rows: int | None = None,
        schema: object | None = None,
        aliases: Aliases | None = None,
        strings: Strings | None = None,
        time_zone: str | None = None,
        time_unit: TimeUnit | None = None,
        target_rows: int | None = None,
        target_bytes: int | None = None,
        linger: float = 0.05,
        max_in_flight_batches: int | None = None,
        max_in_flight_bytes: int | None = None,
    ) -> None:
        arguments: dict[str, Any] = {
            "subscription": subscription,
            "partitions": None if partitions is None else list(partitions),
            "start": start,
            "auto_ack": auto_ack,
            "timeout": timeout,
            "prefetch_batches": prefetch_batches,
            "prefetch_bytes": prefetch_bytes,
            "stream_wait": stream_wait,
            "follow": follow,
            "retry_deadline": retry_deadline,
            "local_socket": local_socket,
            "shared_memory": shared_memory,
            "tls_ca": tls_ca,
            "tls_cert": tls_cert,
            "tls_key": tls_key,
            "tls_server_name": tls_server_name,
            "token": token,
            "token_file": token_file,
            "consumer": consumer,
            "mode": mode,
            "lease": lease,
            "sharing": sharing,
            "query": query,
            "ack_within": ack_within,
            "max_rows": max_rows,
            **dialect_arguments(schema, aliases, strings, time_zone, time_unit),
            "target_rows": target_rows,
            "target_bytes": target_bytes,
            "linger": linger,
            "max_in_flight_batches": max_in_flight_batches,
            "max_in_flight_bytes": max_in_flight_bytes,
        }
        super().__init__(stream, arguments)
        self.url = url
        self._auto_ack = auto_ack
        self._consumer: _native.Consumer | None = None
        #: The last batch that the caller has and the coordinator does not know to be done, by partition.
        self._unacked: dict[int, Origin] = {}
        #: Epochs are not mixed: set by who reads them.
        self._by_epoch = False

    @property
    def partitions(self) -> list[int]:
        """The partitions that are read."""
        return self._open().partitions

    @property
    def schema(self) -> pa.Schema | None:
        """The schema of all its batches; waits for it. None if the stream ended without one."""
        schema = self._open().schema(self._arguments["timeout"])
        return None if schema is None else pa.schema(schema)

    @property
    def partition(self) -> int | None:
        """The last batch's partition."""
        return None if self._last is None else self._last[0]

    @property
    def offset(self) -> int | None:
        """The last batch's offset in its partition."""
        return None if self._last is None else self._last[1]

    @property
    def epoch(self) -> int | None:
        """The last batch's epoch, for instance Spark's batch id."""
        return None if self._last is None else self._last[2]

    @property
    def skipped(self) -> int:
        """Batches that were dropped under this iterator so far, since its subscription or stream rather loses them.

        Each gap is logged as a warning, too (logger "bowstring").
        """
        return self._skipped

    @property
    def _coordinator(self) -> StreamingIterator:
        """What DRLS's documents hand to `create_partitioned_iterators`: it has the URL and the stream."""
        return self

    @property
    def last_batch_id(self) -> int | None:
        """DRLS's name for `offset`."""
        return self.offset

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        if self._auto_ack:
            self.ack()
        if not self._fill():
            raise StopIteration
        return self._hand_over()

    def ack(self) -> None:
        """The subscription is done with all batches that this iterator has given so far. Returns at once."""
        if self._unacked:
            consumer, generation = self._consumer, self._generation
            unacked, self._unacked = self._unacked, {}
            # Closed while it gave the last one: that will come again.
            if consumer is not None and self._arguments["subscription"] is not None:
                try:
                    for origin in unacked.values():
                        consumer.ack_through(end_of(origin), generation)
                except BaseException:
                    self._unacked = unacked | self._unacked
                    raise

    def flush(self, timeout: float | None = None) -> None:
        """Waits until the coordinator has confirmed all acks so far."""
        if self._consumer is not None:
            self._consumer.flush_acks(timeout)

    def tables(self) -> Iterator[pa.Table]:
        """The batches as tables, for DRLS's users."""
        return (pa.Table.from_batches([batch]) for batch in self)

    def batches_with_offsets(self) -> Iterator[Delivered]:
        """Each batch with its partition, offset, epoch, append time, first offset and rows."""
        for batch in self:
            assert self._last is not None, "set by every step"
            partition, offset, epoch, appended_at, extent, _, skipped, *_ = self._last
            first = offset if extent is None else extent[0]
            yield Delivered(batch, partition, offset, epoch, appended_at, first, rows_of(self._last), skipped)

    def handles(self) -> BatchHandles:
        """Each batch as a `BatchHandle`, to be acked by itself, for `for` and `async for`; nothing is acked by a step.

        `ack` of the iterator and leaving its `with` block ack what it gave otherwise, and nothing of these.
        """
        return BatchHandles(self)

    def iter_datasets(self, window_size: int) -> Iterator[pa.Table]:
        """Tables of `window_size` batches each; the last one may have fewer. Raises `InvalidArgument`.

        With auto-ack a table's batches are acked when the next table is asked for, and not before.
        """
        if window_size < 1:
            raise InvalidArgument(f"window_size is {window_size}; use a number from 1", "invalid_argument", False)
        bound = self._arguments["max_in_flight_batches"]
        if bound is not None and window_size > bound:
            reason = f"window_size is {window_size}, and max_in_flight_batches lets out {bound}; use a smaller window"
            raise InvalidArgument(reason, "invalid_argument", False)
        while window := self._window(window_size):
            yield pa.Table.from_batches(window)
            if self._auto_ack:
                self.ack()
        self.flush()

    def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        return self

    async def __anext__(self) -> pa.RecordBatch:
        """The next batch, without blocking the event loop. A cancelled wait loses nothing: the batch stays ready."""
        if self._auto_ack:
            self.ack()
        if not await self._fill_async():
            raise StopAsyncIteration
        return self._hand_over()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rest of the stream for polars, duckdb, pandas and every other Arrow reader."""
        schema = self.schema
        if schema is None:
            schema = pa.schema([])
        return pa.RecordBatchReader.from_batches(schema, iter(self)).__arrow_c_stream__(requested_schema)

    def close(self, timeout: float | None = None) -> None:
        """Confirms the acks so far and ends reading; what was read ahead is left to the next iterator.

        A step that waits in another thread ends with `Cancelled`.
        """
        self._ended = True
        # New ones: another thread may be at work on those that were.
        self._ready = deque()
        self._unacked = {}
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._auto_ack:
            self.ack()
        elif kind is not None and value is not None:
            self._refuse(value)
        self.close()

    def _refuse(self, error: BaseException) -> None:
        """What the caller has of a shared subscription goes to others, and they are told why; no other one is told."""
        consumer = self._consumer
        if consumer is not None and consumer.is_shared and isinstance(error, Exception):
            for origin in self._unacked.values():
                consumer.nack(end_of(origin), 0.0, reason_of(error))
            self._unacked = {}

    def __reduce__(self) -> tuple[Any, ...]:
        travelling(self._arguments)
        return _restore, (self.url, self.stream, self._arguments)

    def __repr__(self) -> str:
        return f"StreamingIterator({self.url!r}, {self.stream!r}, subscription={self.subscription!r})"

    def _open(self) -> _native.Consumer:
        if self._consumer is None:
            if self._ended:
                raise InvalidArgument("the iterator is closed; make a new one", "invalid_argument", False)
            connecting = ("retry_deadline", "local_socket", "shared_memory", "token", *SECURITY_NAMES)
            own = {*connecting, "auto_ack", "timeout"}
            arguments = {name: self._arguments[name] for name in self._arguments.keys() - own}
            client = Client(self.url, **{name: self._arguments[name] for name in connecting})
            native = consumer_arguments(**arguments, by_epoch=self._by_epoch)
            self._consumer = client._native.consumer(self.stream, native)
        return self._consumer

    def _hand_over(self) -> pa.RecordBatch:
        """The same, which `ack` acks."""
        batch, origin = self._pop()
        self._unacked[origin[0]] = origin
        return batch

    def _window(self, size: int) -> list[pa.RecordBatch]:
        """Up to `size` batches, fewer only at the end."""
        window: list[pa.RecordBatch] = []
        while len(window) < size:
            if not self._fill():
                break
            window.append(self._hand_over())
        return window


def _restore(url: str, stream: str, arguments: dict[str, Any]) -> StreamingIterator:
    return StreamingIterator(url, stream, **arguments)

"""The output of work on a shared subscription: each batch's results once, whatever happens to who works on it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bowstring.appending import importable
from bowstring.errors import InvalidArgument, StreamNotFound
from bowstring.streaming.routing import Routing

if TYPE_CHECKING:
    from bowstring.appending import EpochWriter
    from bowstring.client import Client
    from bowstring.handles import BatchHandle
    from bowstring.looking import SubscriptionLag

# Of these two numbers the producers' names are made: to change them doubles what is under way meanwhile.
#: Producers of an output stream at most that a subscription takes, which remembers 16,384 of all.
_PRODUCERS_MAX = 4096
#: Most of them per partition: so far apart are the oldest batch that is not acked and the newest that is worked on.
_SLOTS_MAX = 256
#: All workers are one run of their producer: of several that have the same batch, the commit names one.
_RUN = "work"
_NAME_BYTES_MAX = 256


class Output:
    """What of a subscription's batches has its results in the output stream, and how they get there.

    The results of the batch at an offset are one epoch of the output stream, committed at once or not at all, and only
    once: its number is the offset, its producer is named after the stream, the subscription, the partition and a slot,
    which is the offset modulo a number of slots. A commit in a slot ends what was open of earlier offsets there, so
    that a batch has its turn when the subscription's cursor has passed the one that had its slot before.

    An output stream remembers 16,384 producers for as long as it lives, and a subscription of 16 partitions or more
    takes 4096 of them: it can be the output of 4 such subscriptions, those counted that are gone. A fifth is told
    `BufferFull` ("too_many").

    The names hold for a stream and a subscription as long as they live: of those that were deleted and made anew, the
    results are others. After a seek backwards they are not: what has its results keeps them, and of batches that a seek
    had skipped before some are taken to have theirs.

    Args:
        client: of the coordinator that has the stream; pickles.
        stream: whose batches are worked on.
        subscription: shared by who works on them.
        output: the stream that the results go to; made, with as many partitions, if it does not exist.
        output_client: of the coordinator that has the output; `client` by default.
        routing: which partition of the output each row goes to: "hash(columns)", all rows of the same values to the
            same one, "round_robin" by batches, or "column:name", by the number in that column; all of a batch's
            results to one partition by default.

    Raises `InvalidArgument` if the subscription divides batches by keys or halves them, or if the output stream shows
    batches before their epoch is committed; `StreamNotFound`.
    """

    def __init__(
        self,
        client: Client,
        stream: str,
        subscription: str,
        output: str,
        output_client: Client | None = None,
        routing: str | None = None,
    ) -> None:
        self._client = client
        self._output_client = client if output_client is None else output_client
        if not hasattr(self._output_client, "open_epoch"):
            reason = f"{self._output_client!r} has no epochs, by which an output is exactly once"
            raise InvalidArgument(f"{reason}; give output_client of one coordinator", "invalid_argument", False)
        self._stream = stream
        self._subscription = subscription
        self.output = output
        described = client.describe_stream(stream)
        self._partitions = len(described["partitions"])
        self._slots = max(1, min(_SLOTS_MAX, _PRODUCERS_MAX // self._partitions))
        # Over several coordinators, partition p is of coordinator p modulo their number.
        parts = [one["description"] for one in described.get("coordinators", ())] or [described]
        #: Of each coordinator, the stream that the names are of.
        self.stream_ids = tuple(int(part["stream_id"]) for part in parts)
        self._prefixes = [_prefix(part, subscription) for part in parts]
        self._routing = None if routing is None else Routing.parse(routing)
        self._targets = self._ensure()
        #: The subscription's cursor, by partition, as far as it is known.
        self._acked: dict[int, int] = {}

    def has_turn(self, handle: BatchHandle) -> bool:
        """Whether the batch that had its slot before is done with, so that this one may begin."""
        before = handle.offset - self._slots
        if before >= self._acked.get(handle.partition, 0):
            lag = lag_of(self._client, self._stream, self._subscription)
            self._acked = {one.partition: one.acked or 0 for one in lag.partitions if one.partition is not None}
        return before < self._acked.get(handle.partition, 0)

    def begin(self, handle: BatchHandle) -> bool:
        """Whether the batch's results are still to be made; it has its turn. Raises `InvalidArgument` for a part."""
        if handle.rows is not None or handle.first_offset != handle.offset:
            what = f"rows {handle.rows} of batch {handle.offset} of partition {handle.partition}"
            reason = f"{what} of stream {self._stream} came by themselves, and exactly once is by whole batches"
            raise InvalidArgument(
                f"{reason}; read the subscription without max_rows everywhere", "invalid_argument", False
            )
        opened = self._output_client.open_epoch(self.output, self._producer(handle), _RUN, handle.offset)
        return opened != "already_committed"

    def commit(
        self,
        handle: BatchHandle,
        results: Iterable[Any],
        append_timeout: float | None = None,
        goes_on: Callable[[], None] = lambda: None,
    ) -> bool:
        """Makes them the batch's results, all at once; False if somebody else's are, which changes nothing.

        Each append waits for room for `append_timeout` seconds at most, the coordinator's by default; `goes_on` is
        called after each.
        Raises what `EpochWriter.append` and `Client.commit_epoch` raise; then they are seen all, or not at all.
        """
        producer, receipts = self._producer(handle), []
        writer: EpochWriter | None = None
        for result in results:
            if writer is None:
                attempt = secrets.randbits(63)
                writer = self._output_client.writer(
                    self.output,
                    producer=producer,
                    run=_RUN,
                    epoch=handle.offset,
                    task=handle.partition,
                    attempt=attempt,
                    append_timeout=append_timeout,
                )
            for index, batch in enumerate(_batches_of(result)):
                if self._routing is None:
                    writer.append(batch)
                else:
                    for partition, part in self._routing.split(batch, self._targets, handle.partition, index):
                        writer.append(part, partition)
                goes_on()
        if writer is not None and (receipt := writer.finish()) is not None:
            receipts.append(receipt)
        done = self._output_client.commit_epoch(self.output, producer, _RUN, handle.offset, receipts)
        return done != "already_committed"

    def abort(self, handle: BatchHandle) -> None:
        """Leaves nothing staged of a batch that failed."""
        self._output_client.abort_epoch(self.output, self._producer(handle), _RUN, handle.offset)

    def _producer(self, handle: BatchHandle) -> str:
        prefix = self._prefixes[handle.partition % len(self._prefixes)]
        return f"{prefix}/{handle.partition}.{handle.offset % self._slots}"

    def _ensure(self) -> int:
        """How many partitions the output has; makes it if it does not exist."""
        try:
            found = self._output_client.describe_stream(self.output)
        except StreamNotFound:
            found = self._output_client.create_stream(self.output, partitions=self._partitions, if_not_exists=True)
        if (shown := found["options"]["visibility"]) != "committed":
            reason = f"stream {self.output} shows batches before their epoch is committed (visibility is {shown})"
            raise InvalidArgument(f"{reason}; use one of visibility committed as output", "invalid_argument", False)
        return len(found["partitions"])


def lag_of(client: Client, stream: str, subscription: str) -> SubscriptionLag:
    """What the subscription has not acked. Raises `StreamNotFound`, also if there is no such subscription."""
    found = next((one for one in client.lag(stream) if one.subscription == subscription), None)
    if found is None:
        raise _no_subscription(stream, subscription)
    return found


def tables_of(result: Any) -> list[Any]:
    """What a function has returned as a list of what can be appended: nothing, one Arrow object, or several."""
    if result is None:
        return []
    result = importable(result)
    if hasattr(result, "__arrow_c_stream__") or hasattr(result, "__arrow_c_array__"):
        return [result]
    if isinstance(result, Iterable) and not isinstance(result, (str, bytes, Mapping)):
        return [table for one in result for table in tables_of(one)]
    kind = type(result).__name__
    raise TypeError(f"the function returned a {kind}; it returns None, a record batch, a table, or several of them")


def _batches_of(result: Any) -> Iterator[pa.RecordBatch]:
    if hasattr(result, "__arrow_c_stream__"):
        yield from pa.RecordBatchReader.from_stream(result)
    else:
        yield pa.record_batch(result)


def _prefix(described: Mapping[str, Any], subscription: str) -> str:
    """What tells a stream's subscription from all others, also from one of the same name before it."""
    stream = described["stream"]
    own = next((one for one in described["subscriptions"] if one["subscription"] == subscription), None)
    if own is None:
        raise _no_subscription(stream, subscription)
    _check_whole(stream, subscription, own["sharing"])
    made = f"{described['stream_id']}/{own['created_at_micros']}"
    prefix = f"{stream}/{subscription}/{_digest(made)}"
    return prefix if len(prefix.encode()) <= _NAME_BYTES_MAX - 32 else _digest(prefix)


def _no_subscription(stream: str, subscription: str) -> StreamNotFound:
    reason = f"stream {stream} has no subscription {subscription}; subscribe first"
    return StreamNotFound(reason, "subscription_not_found", False)


def _check_whole(stream: str, subscription: str, sharing: Mapping[str, Any] | None) -> None:
    """Refuses what is given to consumers in parts that may change from one delivery to the next."""
    if sharing is None:
        reason = f"subscription {subscription} of stream {stream} is not shared; subscribe with mode='shared'"
        raise InvalidArgument(reason, "invalid_argument", False)
    parts = "keys" if sharing["keys"] else "bisect" if sharing["bisect"] else None
    if parts is not None:
        reason = f"subscription {subscription} of stream {stream} divides batches ({parts})"
        raise InvalidArgument(f"{reason}, and an output is exactly once by whole ones", "invalid_argument", False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

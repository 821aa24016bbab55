"""What a flow reads: the batches of one subscription, or of several at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from bowstring.errors import InvalidArgument, Timeout
from bowstring.flows.stages import Pipeline

if TYPE_CHECKING:
    from bowstring import _native
    from bowstring.flows.building import Source
    from bowstring.iterator import StreamingIterator
    from bowstring.reading import Delivered
    from bowstring.subscription import Subscription

#: So many batches of each source wait in Python while another is at work; more wait in the iterator.
_AHEAD = 2


class Standing:
    """Where a subscription stands: its stream, and the next offset that is not acked, of each partition.

    Raises `InvalidArgument` for one that divides its batches among consumers: a flow has all, in order.
    """

    def __init__(self, subscription: Subscription) -> None:
        described = subscription._client.describe_stream(subscription.stream)
        self.stream_id: int | None = described.get("stream_id")
        own = next(one for one in described["subscriptions"] if one["subscription"] == subscription.name)
        if own["mode"] != "static":
            reason = f"subscription {subscription.name} of stream {subscription.stream} is {own['mode']}"
            reason = f"{reason}, and a flow has all batches of a partition in order: use one of mode static"
            raise InvalidArgument(reason, "invalid_argument", False)
        self.cursors: dict[int, int] = {one["partition"]: one["acked"] for one in own["partitions"]}


class Reader:
    """A source that is read: its batches, what is done with each, and up to where they are taken.

    Partitions of several sources are numbered one after the other, from `first` on.
    """

    def __init__(
        self, source: Source, input_number: int, first: int, iterator: StreamingIterator, schema: pa.Schema
    ) -> None:
        self.source = source
        self.subscription = source.subscription
        self.standing = Standing(source.subscription)
        self.input = input_number
        self.iterator = iterator
        self.before = Pipeline(source.stages, schema)
        #: Of what the steps make of its batches.
        self.schema = self.before.schema
        #: The last step, if it is done together with the operator that comes after it.
        self.fused: _native.Rows | None = None
        self.numbers = range(first, first + len(iterator.partitions))
        #: The next offset of each partition, by its own number.
        self.offsets: dict[int, int] = {}

    def number(self, partition: int) -> int:
        """A partition's number among those of all sources."""
        return self.numbers[partition]

    def take(self, delivered: Delivered) -> bool:
        """Whether a batch was not taken before; then it is."""
        if delivered.offset < self.offsets.get(delivered.partition, 0):
            return False
        self.offsets[delivered.partition] = delivered.offset + 1
        return True

    def resume(self, offsets: dict[int, int] | None) -> None:
        """Goes on from the next offsets, by numbers among those of all sources; from the cursors if there are none."""
        if offsets is None:
            self.offsets = dict(self.standing.cursors)
            return
        own = {number - self.numbers.start: offset for number, offset in offsets.items() if number in self.numbers}
        self.offsets = own

    def check_behind(self, directory: str | None) -> None:
        """What was acked must be in the state. Raises `InvalidArgument`."""
        for partition, cursor in self.standing.cursors.items():
            if cursor > (offset := self.offsets.get(partition, 0)):
                reason = (
                    f"subscription {self.subscription.name} of stream {self.subscription.stream} has acked partition "
                    f"{partition} up to {cursor}, and the state in {directory} has what comes before {offset}: seek it "
                    f"to {offset}, or begin with an empty directory"
                )
                raise InvalidArgument(reason, "invalid_argument", False)

    def ack(self) -> None:
        """What is taken is acked."""
        if self.offsets:
            client, stream = self.subscription._client, self.subscription.stream
            client.ack(stream, self.subscription.name, self.offsets, self.standing.stream_id)


class Reading(Protocol):
    """Batches as they come."""

    def next(self) -> tuple[Reader, Delivered | None] | None:
        """A source's next batch, or its end; None if there is nothing for a while. Raises what reading raises."""

    def ack(self) -> None:
        """All that was given is acked."""

    def flush(self) -> None:
        """Waits until all acks are confirmed."""

    def close(self) -> None:
        """Reads no more."""


class OneReader:
    """The only source: read in this thread."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._deliveries: Iterator[Delivered] = reader.iterator.batches_with_offsets()

    def next(self) -> tuple[Reader, Delivered | None] | None:
        """As `Reading` has it."""
        try:
            return self._reader, next(self._deliveries, None)
        except Timeout:
            # The generator is over with it, and the iterator is not.
            self._deliveries = self._reader.iterator.batches_with_offsets()
            return None

    def ack(self) -> None:
        """As `Reading` has it."""
        self._reader.iterator.ack()

    def flush(self) -> None:
        """As `Reading` has it."""
        self._reader.iterator.flush()

    def close(self) -> None:
        """Nothing reads ahead."""


class ManyReaders:
    """Several sources, each read in a thread of its own, a few batches ahead."""

    def __init__(self, readers: Sequence[Reader], tick: float) -> None:
        self._readers = readers
        self._tick = tick
        self._stopped = threading.Event()
        self._arrived: queue.Queue[tuple[Reader, Delivered | BaseException | None]] = queue.Queue(_AHEAD * len(readers))
        self._threads = [
            threading.Thread(target=self._read, args=(reader,), name="bowstring-flow-source", daemon=True)
            for reader in readers
        ]
        for thread in self._threads:
            thread.start()

    def next(self) -> tuple[Reader, Delivered | None] | None:
        """As `Reading` has it."""
        try:
            reader, arrived = self._arrived.get(timeout=self._tick)
        except queue.Empty:
            return None
        if isinstance(arrived, BaseException):
            raise arrived
        return reader, arrived

    def ack(self) -> None:
        """As `Reading` has it. The iterators have given more than what was taken: not all of it is acked."""
        for reader in self._readers:
            reader.ack()

    def flush(self) -> None:
        """An ack returns when it is confirmed."""

    def close(self) -> None:
        """As `Reading` has it."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _read(self, reader: Reader) -> None:
        one = OneReader(reader)
        while not self._stopped.is_set():
            arrived: tuple[Reader, Delivered | BaseException | None] | None
            try:
                arrived = one.next()
            except BaseException as error:  # noqa: BLE001 - whoever asks for the next one gets it.
                arrived = reader, error
            if arrived is not None:
                self._put(arrived)
                if not isinstance(arrived[1], tuple):
                    return

    def _put(self, arrived: tuple[Reader, Delivered | BaseException | None]) -> None:
        while not self._stopped.is_set():
            try:
                self._arrived.put(arrived, timeout=self._tick)
            except queue.Full:
                continue
            return


def reading(readers: Sequence[Reader], tick: float) -> Reading:
    """Begins to read all of them."""
    return OneReader(readers[0]) if len(readers) == 1 else ManyReaders(readers, tick)

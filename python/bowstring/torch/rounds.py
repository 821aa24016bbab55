"""Rounds: which rows of a stream are trained on together, the same for every rank, and durable beside the stream."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import NamedTuple

import pyarrow as pa

from bowstring.client import Client
from bowstring.errors import Cancelled, StreamNotFound, Timeout
from bowstring.iterator import StreamingIterator
from bowstring.torch.state import State

#: The producer of the stream of rounds: a round's number is its epoch, and its offset.
PRODUCER = "rounds"
SCHEMA = pa.schema(
    [
        pa.field("stream_id", pa.uint64(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("first_row", pa.int64(), nullable=False),
        pa.field("end_row", pa.int64(), nullable=False),
    ]
)
#: Seconds between two looks at whether to stop.
LOOK = 0.25


class Piece(NamedTuple):
    """Rows [first_row, end_row) of a batch."""

    partition: int
    offset: int
    first_row: int
    end_row: int


class Round:
    """A round's rows, in their order: a row has a number from 0 on.

    `ends` says of each partition where the next round goes on: an offset and a row of it.
    """

    def __init__(self, number: int, stream_id: int, pieces: Iterable[Piece], ends: dict[int, tuple[int, int]]) -> None:
        self.number = number
        self.stream_id = stream_id
        self.pieces = list(pieces)
        self.ends = ends
        #: Rows before each piece, and at last of all.
        self._before = [0, *accumulate(piece.end_row - piece.first_row for piece in self.pieces)]

    @property
    def rows(self) -> int:
        """Rows of all its pieces."""
        return self._before[-1]

    def between(self, first: int, end: int) -> list[Piece]:
        """The pieces of its rows [first, end)."""
        found = []
        at = bisect_right(self._before, first) - 1
        while first < end:
            piece, before = self.pieces[at], self._before[at]
            until = min(end, self._before[at + 1])
            found.append(
                piece._replace(first_row=piece.first_row + first - before, end_row=piece.first_row + until - before)
            )
            first, at = until, at + 1
        return found

    def not_before(self, offsets: dict[int, int]) -> list[tuple[int, int]]:
        """Its rows of batches that are not before these offsets, as ranges [first, end)."""
        ranges: list[tuple[int, int]] = []
        for at, piece in enumerate(self.pieces):
            if piece.offset < offsets.get(piece.partition, 0):
                continue
            first, end = self._before[at], self._before[at + 1]
            if ranges and ranges[-1][1] == first:
                first = ranges.pop()[0]
            ranges.append((first, end))
        return ranges

    def to_batch(self) -> pa.RecordBatch:
        """As the stream of rounds has it: where partitions go on are pieces without rows, at the end."""
        ends = [Piece(partition, offset, row, row) for partition, (offset, row) in sorted(self.ends.items())]
        rows = [*self.pieces, *ends]
        columns = zip(*rows, strict=True)
        ids = [self.stream_id] * len(rows)
        arrays = [pa.array(values, field.type) for values, field in zip([ids, *columns], SCHEMA, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)

    @staticmethod
    def from_batch(number: int, batch: pa.RecordBatch) -> Round:
        """The round of that number, from the stream of rounds."""
        rows = [Piece(*row) for row in zip(*(batch.column(at).to_pylist() for at in range(1, 5)), strict=True)]
        pieces = [piece for piece in rows if piece.end_row > piece.first_row]
        ends = {piece.partition: (piece.offset, piece.first_row) for piece in rows if piece.end_row == piece.first_row}
        return Round(number, batch.column(0)[0].as_py(), pieces, ends)


def rounds_of(stream: str, subscription: str) -> str:
    """The name of the stream that has a stream's rounds."""
    return f"{stream}.rounds.{subscription}"


class Waiting:
    """A wait that ends at a deadline (`Timeout`), or when somebody says stop (`Cancelled`)."""

    def __init__(self, what: str, timeout: float | None, is_stopped: Callable[[], bool]) -> None:
        self._what = what
        self._timeout = timeout
        self._is_stopped = is_stopped
        self._began = time.monotonic()

    def check(self) -> None:
        """Raises if it is over."""
        if self._is_stopped():
            raise Cancelled(f"{self._what}: the loader was closed meanwhile", "cancelled", False)
        if self._timeout is not None and time.monotonic() - self._began > self._timeout:
            text = f"{self._what}: not there within {self._timeout} s; append more, or wait longer (timeout)"
            raise Timeout(text, "timeout", True)


class Rounds:
    """The stream of rounds, as every rank reads it, each in its turn."""

    def __init__(
        self, client: Client, stream: str, subscription: str, timeout: float | None, is_stopped: Callable[[], bool]
    ) -> None:
        self._client = client
        self._name = rounds_of(stream, subscription)
        self._subscription = subscription
        self._timeout = timeout
        self._is_stopped = is_stopped
        self._iterator: StreamingIterator | None = None
        self._next = 0

    def get(self, number: int) -> Round | None:
        """That round; waits for it. None if the stream ended before. Raises `Timeout`, `StreamFailed`."""
        waiting = Waiting(f"round {number} of stream {self._name}", self._timeout, self._is_stopped)
        while True:
            try:
                if self._iterator is None or self._next != number:
                    self.close()
                    self._iterator = self._client.iterator(
                        self._name,
                        subscription=None,
                        start={0: number},
                        timeout=LOOK,
                        stream_wait=LOOK,
                        prefetch_batches=1,
                    )
                    self._next = number
                batch = next(self._iterator, None)
            except Timeout:
                waiting.check()
            except StreamNotFound:
                self.close()
                waiting.check()
            else:
                self._next += 1
                return None if batch is None else Round.from_batch(number, batch)

    def first(self) -> int:
        """The oldest round of which something may not be acked; waits for the stream of rounds."""
        waiting = Waiting(f"stream {self._name}, which rank 0 makes", self._timeout, self._is_stopped)
        while True:
            try:
                return acked(self._client, self._name, self._subscription)[0]
            except StreamNotFound:
                waiting.check()
                time.sleep(LOOK / 10)

    def close(self) -> None:
        """Ends reading."""
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            iterator.close()


def acked(client: Client, stream: str, subscription: str) -> dict[int, int]:
    """Up to where the subscription is done with each partition. Raises `StreamNotFound`."""
    for one in client.describe_stream(stream)["subscriptions"]:
        if one["subscription"] == subscription:
            return {place["partition"]: place["acked"] for place in one["partitions"]}
    raise StreamNotFound(f"stream {stream} has no subscription {subscription}", "subscription_not_found", False)


def ack_state(client: Client, state: State) -> None:
    """Done with the rows that no state from this one on needs; the newest round stays, since the next begins there."""
    name = rounds_of(state.stream, state.subscription)
    kept = client.describe_stream(name)["partitions"][0]
    first = state.first_round
    # Where the rounds before go on, and each round from there on, as far as rows of it are left.
    numbers = range(max(first - 1, kept["start"], 0), min(state.next_round, kept["end"]))
    offsets: dict[int, int] = {}
    needed: dict[int, int] = {}
    batches = client.read(name, 0, numbers.start, numbers.stop) if numbers else ()
    for number, batch in zip(numbers, batches, strict=True):
        made = Round.from_batch(number, batch)
        offsets = {partition: offset for partition, (offset, _) in made.ends.items()}
        for one, begin, end in state.left:
            if one == number:
                for piece in made.between(begin, end):
                    needed.setdefault(piece.partition, piece.offset)
    if offsets:
        client.ack(state.stream, state.subscription, offsets | needed, made.stream_id)
    client.ack(name, state.subscription, {0: max(kept["start"], min(first, kept["end"] - 1))})

"""Rounds: which rows of a stream are trained on together, the same for every rank, and durable beside the stream."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from contextlib import suppress
from itertools import accumulate
from typing import Any, NamedTuple

import pyarrow as pa

from bowstring.client import Client
from bowstring.errors import OffsetError, StreamFailed, StreamNotFound, StreamReplaced, Timeout
from bowstring.iterator import StreamingIterator
from bowstring.torch.state import State
from bowstring.torch.waiting import LOOK, Patience, Waiting

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


class Rounds:
    """The stream of rounds, as every rank reads it, each in its turn.

    Those of a former stream of the same name count as not there: rank 0 deletes them once it begins.
    """

    def __init__(self, client: Client, stream: str, subscription: str, stream_id: int, patience: Patience) -> None:
        self._client = client
        self._stream = stream
        self._name = rounds_of(stream, subscription)
        self._subscription = subscription
        self._stream_id = stream_id
        self._patience = patience
        self._iterator: StreamingIterator | None = None
        self._next = 0

    def get(self, number: int) -> Round | None:
        """That round; waits for it. None if the stream ended before.

        Raises `Timeout`, `StreamFailed`, `StreamReplaced`, `OffsetError` if it was acked and is gone.
        """
        waiting = Waiting(f"round {number} of stream {self._name}", self._patience)
        while True:
            try:
                batch = self._batch(number)
                found = None if batch is None else Round.from_batch(number, batch)
                if found is None or found.stream_id == self._stream_id:
                    self._next += 1
                    return found
                self.close()
            except Timeout:
                pass
            except (StreamNotFound, StreamReplaced):
                self.close()
            except StreamFailed:
                # So ends reading, too, where rank 0 deletes a former stream's.
                self._refuse_replaced()
                raise
            except OffsetError:
                self.close()
                if not self._is_former():
                    raise
            waiting.pause()
            self._refuse_replaced()

    def first(self) -> int:
        """The oldest round of which something may not be acked; waits for the stream of rounds."""
        waiting = Waiting(f"stream {self._name}, which rank 0 makes", self._patience)
        while True:
            try:
                # In this order: what is looked up second is not of a former stream if this is not.
                if not self._is_former():
                    return acked(self._client, self._name, self._subscription)[0]
            except StreamNotFound:
                pass
            waiting.pause()
            self._refuse_replaced()

    def close(self) -> None:
        """Ends reading."""
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            iterator.close()

    def _batch(self, number: int) -> pa.RecordBatch | None:
        if self._iterator is None or self._next != number:
            self.close()
            options = {"subscription": None, "start": {0: number}, "prefetch_batches": 1}
            self._iterator = self._client.iterator(self._name, timeout=LOOK, stream_wait=LOOK, **options)
            self._next = number
        return next(self._iterator, None)

    def _is_former(self) -> bool:
        """Whether its rounds are those of a former stream, or none are there; so, too, if it is deleted just now."""
        try:
            _, made = newest(self._client, self._name)
        except (StreamNotFound, StreamReplaced, OffsetError):
            return True
        return made is not None and made.stream_id != self._stream_id

    def _refuse_replaced(self) -> None:
        # Where it is deleted, who makes rounds is told; what is in rounds already is read without it.
        with suppress(StreamNotFound):
            described(self._client, self._stream, self._stream_id)


def newest(client: Client, name: str) -> tuple[dict[str, Any], Round | None]:
    """What a stream of rounds is like, and its newest round. Raises `StreamNotFound`, `StreamReplaced`."""
    kept = client.describe_stream(name)
    end = int(kept["partitions"][0]["end"])
    if not end:
        return kept, None
    (batch,) = client.read(name, 0, end - 1, end, stream_id=kept["stream_id"])
    return kept, Round.from_batch(end - 1, batch)


def described(client: Client, stream: str, stream_id: int) -> dict[str, Any]:
    """What the stream is like now. Raises `StreamReplaced` if another one has its name, and `StreamNotFound`."""
    description = client.describe_stream(stream)
    found = description["stream_id"]
    if found != stream_id:
        text = (
            f"stream {stream} was deleted and created again, and the state is of the former one (stream_id {stream_id}"
        )
        raise StreamReplaced(f"{text}, now {found}); begin without a state", "stream_replaced", False)
    return description


def acked(client: Client, stream: str, subscription: str) -> dict[int, int]:
    """Up to where the subscription is done with each partition. Raises `StreamNotFound`."""
    for one in client.describe_stream(stream)["subscriptions"]:
        if one["subscription"] == subscription:
            return {place["partition"]: place["acked"] for place in one["partitions"]}
    raise StreamNotFound(f"stream {stream} has no subscription {subscription}", "subscription_not_found", False)


def ack_state(client: Client, state: State) -> None:
    """Done with the rows that no state from this one on needs; the newest round stays, since the next begins there."""
    described(client, state.stream, state.stream_id)
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
        client.ack(state.stream, state.subscription, offsets | needed, state.stream_id)
    client.ack(name, state.subscription, {0: max(kept["start"], min(first, kept["end"] - 1))})

"""One rank's batches of a stream, step by step, as one process reads them: the same arithmetic in every rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa

from bowstring.client import Client, connect
from bowstring.errors import InvalidArgument, StreamNotFound
from bowstring.torch.planner import Planner
from bowstring.torch.rounds import Piece, Round, Rounds, acked, described
from bowstring.torch.rows import Rows
from bowstring.torch.state import Rows as Left
from bowstring.torch.state import State, count, cut, repeated
from bowstring.torch.waiting import Patience, Waiting

Remainder = Literal["carry", "drop", "pad"]


@dataclass(frozen=True)
class Reading:
    """What is read, and how it is divided."""

    url: str
    stream: str
    subscription: str
    batch_rows: int
    round_rows: int
    remainder: Remainder
    schema: pa.Schema | None
    columns: tuple[str, ...] | None
    timeout: float | None


@dataclass(frozen=True)
class Place:
    """Who reads: a rank of a world, and in it a worker, which reads each `workers`-th step."""

    rank: int
    world_size: int
    worker: int = 0
    workers: int = 1


@dataclass(frozen=True)
class Step:
    """A rank's batch, and where all ranks are after it."""

    batch: pa.RecordBatch
    round: int
    is_last: bool
    state: State


def steps(reading: Reading, place: Place, begin: State, patience: Patience) -> Iterator[Step]:
    """Those of one worker, through all rounds, until the stream ends.

    Connects with the first step, so that it may begin in a forked process.
    """
    size = _rows_of_step(reading, place)
    client = connect(reading.url)
    # Before a state that is too old makes rank 0 take over from another.
    described(client, reading.stream, begin.stream_id)
    rounds = _Known(client, reading, place, begin.stream_id, patience)
    try:
        state = begin
        for number in sorted({number for number, _, _ in state.left}):
            if rounds.get(number) is None:
                raise _gone(reading, number)
        given = 0
        while True:
            # What is left of a round that was begun, if it is enough for a step; else the next.
            if not _count_of_steps(state.left, size, reading.remainder):
                joined = _joined(state, rounds, reading.remainder)
                if joined is None:
                    return
                state = joined
                rounds.forget(state.first_round)
            total = _count_of_steps(state.left, size, reading.remainder)
            divided = _Divided(state, size, total, reading.remainder)
            yield from _round(client, reading, place, divided, rounds.known, given)
            given += total
            state = divided.after(total)
    finally:
        rounds.close()


def oldest(reading: Reading, place: Place) -> State:
    """Where a rank without a state begins: with what the subscription has not acked. Waits for the first round."""
    _rows_of_step(reading, place)
    client, patience = connect(reading.url), Patience(reading.timeout)
    waiting = Waiting(f"stream {reading.stream}", patience)
    while True:
        try:
            stream_id = client.describe_stream(reading.stream)["stream_id"]
            break
        except StreamNotFound:
            waiting.pause()
    rounds = _Known(client, reading, place, stream_id, patience)
    try:
        first = rounds.oldest()
        left: tuple[Left, ...] = ()
        if (found := rounds.get(first)) is not None:
            offsets = acked(client, reading.stream, reading.subscription)
            left = tuple((first, begin, end) for begin, end in found.not_before(offsets))
            first += 1
        return State(reading.stream, stream_id, reading.subscription, first, left)
    finally:
        rounds.close()


class _Known:
    """The rounds that are needed, which rank 0's first worker makes."""

    def __init__(self, client: Client, reading: Reading, place: Place, stream_id: int, patience: Patience) -> None:
        named = (client, reading.stream, reading.subscription, stream_id)
        self._rounds = Rounds(*named, patience)
        self._planner: Planner | None = None
        self.known: dict[int, Round] = {}
        if place.rank == 0 and place.worker == 0:
            self._planner = Planner(*named, reading.round_rows, patience)
            # There is a stream of rounds then, for the others.
            self._planner.make(-1)

    def get(self, number: int) -> Round | None:
        """None if the stream ended before."""
        if number not in self.known:
            if self._planner is not None:
                self._planner.make(number)
            found = self._rounds.get(number)
            if found is None:
                return None
            self.known[number] = found
        return self.known[number]

    def oldest(self) -> int:
        return self._rounds.first()

    def forget(self, before: int) -> None:
        for number in [number for number in self.known if number < before]:
            del self.known[number]

    def close(self) -> None:
        self._rounds.close()


def _rows_of_step(reading: Reading, place: Place) -> int:
    """Of all ranks together. Raises `InvalidArgument` if no round has that many, and each is to be dropped."""
    size = place.world_size * reading.batch_rows
    if reading.remainder == "drop" and reading.round_rows < size:
        text = f"round_rows is {reading.round_rows}, and a step of world_size {place.world_size} with batch_rows"
        text = f"{text} {reading.batch_rows} takes {size} rows: remainder 'drop' would drop every round"
        raise InvalidArgument(f"{text}; use larger rounds, or 'carry'", "invalid_argument", False)
    return size


def _gone(reading: Reading, number: int) -> InvalidArgument:
    text = f"round {number} of stream {reading.stream} is in the state, and the stream of rounds ends before it"
    return InvalidArgument(f"{text}; use a state of this stream", "invalid_argument", False)


def _count_of_steps(left: tuple[Left, ...], size: int, remainder: Remainder) -> int:
    rows = count(left)
    return -(-rows // size) if remainder == "pad" else rows // size


def _joined(state: State, rounds: _Known, remainder: Remainder) -> State | None:
    """With the next round's rows; None at the end of the stream."""
    found = rounds.get(state.next_round)
    if found is None:
        return None
    carried = state.left if remainder == "carry" else ()
    left = (*carried, (found.number, 0, found.rows)) if found.rows else carried
    return replace(state, next_round=state.next_round + 1, left=left)


class _Divided:
    """The rows that are left of a round, in steps of `size` rows for all ranks together."""

    def __init__(self, state: State, size: int, total: int, remainder: Remainder) -> None:
        self._size = size
        self._begin = state
        self.total = total
        self._remainder = remainder

    @property
    def round(self) -> int:
        return self._begin.next_round - 1

    @property
    def is_padded(self) -> bool:
        """Whether the last step has rows twice."""
        return self.total * self._size > count(self._begin.left)

    def each(self) -> Iterator[tuple[int, tuple[Left, ...]]]:
        """Each step's number and rows; the last one's are filled up from the front, if they are to be padded."""
        rest = self._begin.left
        for number in range(self.total):
            front, rest = cut(rest, self._size)
            if missing := self._size - count(front):
                front += repeated(self._begin.left, missing)
            yield number, front

    def after(self, steps: int) -> State:
        begin = self._begin
        _, rest = cut(begin.left, steps * self._size)
        if steps == self.total and self._remainder == "drop":
            rest = ()
        return replace(begin, left=rest)


def _round(
    client: Client, reading: Reading, place: Place, divided: _Divided, known: dict[int, Round], given: int
) -> Iterator[Step]:
    """A worker's steps of what is left of a round; `given` steps of the rank came before."""
    begin, end = place.rank * reading.batch_rows, (place.rank + 1) * reading.batch_rows
    mine: list[tuple[int, list[Piece]]] = []
    for number, rows in divided.each():
        if (given + number) % place.workers == place.worker:
            _, rest = cut(rows, begin)
            own, _ = cut(rest, end - begin)
            mine.append((number, [piece for one, first, last in own for piece in known[one].between(first, last)]))
    if not mine:
        return
    stream_id = known[divided.round].stream_id
    # A padded step goes back to the front: it is read by itself.
    padded = [mine.pop()] if divided.is_padded and mine[-1][0] == divided.total - 1 else []
    for some in (mine, padded):
        if padded is some:
            pieces = sorted({piece for _, these in some for piece in these})
        else:
            pieces = [piece for _, these in some for piece in these]
        reader = Rows(client, reading.stream, stream_id, reading.schema, pieces)
        try:
            for number, these in some:
                if padded is some:
                    by_piece = dict(zip(pieces, reader.of(pieces), strict=True))
                    slices = [by_piece[piece] for piece in these]
                else:
                    slices = reader.of(these)
                is_last = number == divided.total - 1
                yield Step(_together(slices, reading), divided.round, is_last, divided.after(number + 1))
        finally:
            reader.close()


def _together(slices: list[pa.RecordBatch], reading: Reading) -> pa.RecordBatch:
    """Without a copy where there is one. Raises `InvalidArgument` for columns that are not there."""
    if reading.columns is not None:
        known = slices[0].schema.names
        if wrong := [name for name in reading.columns if name not in known]:
            text = f"columns has {', '.join(wrong)}; stream {reading.stream} has {', '.join(known)}"
            raise InvalidArgument(text, "invalid_argument", False)
        slices = [one.select(list(reading.columns)) for one in slices]
    return slices[0] if len(slices) == 1 else pa.concat_batches(slices)

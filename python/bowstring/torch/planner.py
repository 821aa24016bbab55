"""Who makes the rounds of a stream: rank 0."""

from __future__ import annotations

import uuid
from functools import partial

from bowstring.client import Client
from bowstring.torch.rounds import PRODUCER, SCHEMA, Piece, Round, acked, described, newest, rounds_of
from bowstring.torch.waiting import Patience, Waiting


class Planner:
    """Makes the rounds: rank 0's part. A second one takes over from the first, which is told so (`Fenced`)."""

    def __init__(
        self,
        client: Client,
        stream: str,
        subscription: str,
        stream_id: int,
        round_rows: int,
        patience: Patience,
    ) -> None:
        self._client = client
        self._stream = stream
        self._subscription = subscription
        self._name = rounds_of(stream, subscription)
        self._round_rows = round_rows
        self._patience = patience
        self._run = str(uuid.uuid4())
        self._stream_id = stream_id
        #: Where each partition goes on.
        self._ends: dict[int, tuple[int, int]] = {}
        #: The round to be made next; None before it was looked up.
        self._next: int | None = None
        self._is_complete = False

    def make(self, number: int) -> None:
        """Makes the rounds up to that one; waits for their rows. Does nothing once all of the stream is in rounds."""
        if self._next is None:
            self._next = self._begin()
        while self._next <= number and not self._is_complete:
            pieces = self._wait()
            if pieces:
                self._commit(Round(self._next, self._stream_id, pieces, self._ends))
                self._next += 1
            else:
                self._end()

    def _begin(self) -> int:
        client, name = self._client, self._name
        # Else the rounds of a stream that came after this one would be deleted.
        described(client, self._stream, self._stream_id)
        client.subscribe(self._stream, self._subscription)
        client.create_stream(name, schema=SCHEMA, partitions=1, max_buffered_batches=1 << 16, if_not_exists=True)
        client.subscribe(name, self._subscription)
        kept, made = newest(client, name)
        end = int(kept["partitions"][0]["end"])
        if made is not None:
            if made.stream_id != self._stream_id:
                # Of a former stream of that name.
                client.delete_stream(name)
                return self._begin()
            self._ends = made.ends
        else:
            self._ends = {one: (offset, 0) for one, offset in acked(client, self._stream, self._subscription).items()}
        self._is_complete = kept["state"] != "open"
        # From here on a planner of a former run is refused. If it was faster, there is a newer round.
        if not self._is_complete and client.open_epoch(name, PRODUCER, self._run, end) != "open":
            return self._begin()
        return end

    def _wait(self) -> list[Piece]:
        """A round's pieces, fewer rows at the end of the stream; moves on where partitions go on."""
        waiting = Waiting(f"a round of {self._round_rows} rows of stream {self._stream}", self._patience)
        planned: dict[int, int] = {}
        while True:
            description = described(self._client, self._stream, self._stream_id)
            # In this order: what is visible once the stream has ended is all there ever is.
            visible = {one["partition"]: one["end"] for one in description["partitions"]}
            if visible != planned:
                # It will be trained on and acked, but later: till then it must not keep its producers from appending.
                self._client.plan(self._stream, self._subscription, visible, self._stream_id)
                planned = visible
            try:
                pieces = self._pieces(visible, has_ended=description["state"] != "open")
            except _CursorMovedError:
                continue
            if pieces is not None:
                return pieces
            waiting.pause()

    def _pieces(self, visible: dict[int, int], *, has_ended: bool) -> list[Piece] | None:
        """The next rows, from each partition a batch in turn; None if there are not enough for a whole round."""
        counts = _Counts(self._client, self._stream, self._subscription, self._stream_id, self._ends)
        there = counts.rows_to(visible)
        if not has_ended and there < self._round_rows:
            return None
        left = min(there, self._round_rows)
        ends = dict(self._ends)
        pieces = []
        while left > 0:
            goes_on = {partition: end for partition, end in ends.items() if end[0] < visible[partition]}
            for partition, rows in counts.each(
                {partition: offset for partition, (offset, _) in goes_on.items()}
            ).items():
                offset, first = goes_on[partition]
                taken = min(rows - first, left)
                if taken:
                    pieces.append(Piece(partition, offset, first, first + taken))
                left -= taken
                ends[partition] = (offset + 1, 0) if first + taken == rows else (offset, first + taken)
        self._ends = ends
        return pieces

    def _commit(self, made: Round) -> None:
        client, name, number = self._client, self._name, made.number
        client.open_epoch(name, PRODUCER, self._run, number)
        writer = client.writer(
            name,
            producer=PRODUCER,
            run=self._run,
            epoch=number,
            task=0,
            attempt=0,
            append_timeout=self._patience.timeout,
        )
        writer.append(made.to_batch())
        receipt = writer.finish()
        client.commit_epoch(name, PRODUCER, self._run, number, [] if receipt is None else [receipt])

    def _end(self) -> None:
        assert self._next is not None, "begun"
        self._client.abort_epoch(self._name, PRODUCER, self._run, self._next)
        description = described(self._client, self._stream, self._stream_id)
        if description["state"] == "failed":
            self._client.fail_stream(self._name, description["reason"])
        else:
            self._client.complete_stream(self._name)
        self._is_complete = True


class _Counts:
    """Rows of batches, of which the coordinator tells what a seek over them would skip; nothing is read."""

    def __init__(
        self, client: Client, stream: str, subscription: str, stream_id: int, begins: dict[int, tuple[int, int]]
    ) -> None:
        self._seek = partial(client.seek, stream, subscription, dry_run=True, stream_id=stream_id)
        self._begins = begins
        self._cursor: dict[int, int] | None = None
        self._at = self._rows({partition: offset for partition, (offset, _) in begins.items()})

    def rows_to(self, ends: dict[int, int]) -> int:
        """All rows from where it begins to these offsets."""
        return sum(rows - self._at[one] - self._begins[one][1] for one, rows in self._rows(ends).items())

    def each(self, offsets: dict[int, int]) -> dict[int, int]:
        """The rows of each of these batches."""
        before = self._rows(offsets)
        after = self._rows({partition: offset + 1 for partition, offset in offsets.items()})
        return {partition: after[partition] - before[partition] for partition in offsets}

    def _rows(self, offsets: dict[int, int]) -> dict[int, int]:
        """Rows from the subscription's cursor to these offsets."""
        moves = self._seek(offsets).partitions
        cursor = {one.partition: one.before for one in moves}
        self._cursor = self._cursor or cursor
        if cursor != self._cursor:
            raise _CursorMovedError
        named = (one for one in moves if one.partition in offsets)
        return {one.partition: one.rows if one.after >= one.before else -one.rows for one in named}


class _CursorMovedError(Exception):
    """Something was acked between two counts, which are then not of the same rows."""

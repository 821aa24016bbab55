"""What an iterator reads over several coordinators: the native consumers of all of them, as one."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from bowstring import _native
from bowstring.errors import BowstringError, Cancelled, StreamFailed, Timeout
from bowstring.spread.finding import Finder
from bowstring.spread.part import Part, Taken
from bowstring.spread.places import Places
from bowstring.starts import Start

#: Seconds that one coordinator is asked for a schema before the next one is.
_SCHEMA_TURN = 0.1
#: Seconds between two looks at whether a failure has waited long enough for what other coordinators have.
_LOOK = 1.0


class _Seat:
    """A part and what its thread is doing.

    `idle`, `reading`, `ready` (something is to be taken), `paused` (nothing more before something is acked), `ended`.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self.state = "idle"
        self.found: Taken | BaseException | None = None
        #: When it was found.
        self.since = 0.0
        #: How often the caller has said something of what is from there.
        self.said = 0
        self.thread: threading.Thread | None = None


class _Table:
    """The seats, and what their threads and the caller tell each other. It does not know the consumer, which may go."""

    def __init__(self, seats: Sequence[_Seat]) -> None:
        self.seats = seats
        self.changed = threading.Condition()
        self.closed = False
        #: When the caller last asked for more, or said something of what it has.
        self.caller_at = time.monotonic()
        #: How many threads ask for more just now.
        self.callers = 0

    def is_left(self, lease: float) -> bool:
        """Whether the caller has not been heard of for so many seconds. The lock is held."""
        return self.callers == 0 and time.monotonic() >= self.caller_at + lease

    @contextmanager
    def asked(self) -> Iterator[None]:
        """While the caller asks for more. The lock is held."""
        self.callers += 1
        try:
            yield
        finally:
            self.callers -= 1
            self.caller_at = time.monotonic()

    def work(self, seat: _Seat) -> None:
        """The thread of a seat: waits at its coordinator whenever somebody wants something."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.closed or seat.state == "reading")
                if self.closed:
                    return
                said = seat.said
            found: Taken | BaseException | None
            try:
                found = seat.part.take()
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                found = error
            with self.changed:
                if found is None and not seat.part.has_ended and seat.said != said:
                    # It was acked meanwhile what this waits for.
                    continue
                seat.found, seat.state, seat.since = found, "ready", time.monotonic()
                if found is None:
                    seat.state = "ended" if seat.part.has_ended else "paused"
                self.changed.notify_all()
            self._keep(seat)

    def _keep(self, seat: _Seat) -> None:
        """While the caller is busy with others, what it has not been given stays its own, if it was leased.

        If it has not been heard of for as long as a lease lasts, others get that.
        """
        while True:
            with self.changed:
                lease, found = seat.part.lease, seat.found
                if lease is None or not isinstance(found, tuple):
                    return
                if not self.is_left(lease):
                    self.changed.wait_for(lambda: self.closed or seat.state != "ready", lease / 3)
                if self.closed or seat.state != "ready":
                    return
                is_left = self.is_left(lease)
                if is_left:
                    # It is read on when the caller is back.
                    seat.found, seat.state = None, "idle"
            with suppress(BowstringError):
                if is_left:
                    seat.part.release(found)
                    return
                seat.part.renew(found)

    def read(self, seat: _Seat) -> None:
        """Something of this seat is wanted. The lock is held."""
        seat.state = "reading"
        if seat.thread is None:
            name = f"bowstring-spread-{seat.part.index}"
            seat.thread = threading.Thread(target=self.work, args=(seat,), name=name, daemon=True)
            seat.thread.start()

    def close(self, timeout: float | None = 0.0) -> None:
        """Ends the threads. Raises what the last acks were refused with."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        broken: BowstringError | None = None
        for seat in self.seats:
            try:
                seat.part.close(timeout)
            except BowstringError as error:
                broken = broken or error
        if broken is not None:
            raise broken


class SpreadConsumer:
    """`_native.Consumer` over several coordinators; partitions have the stream's own numbers.

    Each coordinator is waited for in a thread, so that one that is away keeps nobody from the others' batches; they
    take turns.
    """

    def __init__(
        self,
        finder: Finder,
        places: Places,
        arguments: dict[str, Any],
        partitions: Sequence[int] | None,
        start: Start,
    ) -> None:
        self._places = places
        self._partitions = list(range(places.partitions)) if partitions is None else list(partitions)
        divided = places.divided(self._partitions)
        parts = [
            Part(finder, places, index, None if partitions is None else there, arguments, places.start(start, index))
            for index, there in sorted(divided.items())
        ]
        self._parts = {part.index: part for part in parts}
        self._table = _Table([_Seat(part) for part in parts])
        self._turn = 0
        #: Seconds that the failure of a stream at one coordinator waits for others that are read, or are away.
        self._patience = finder.retry_deadline
        #: What the caller's generations are at each coordinator: a new one whenever it has changed at one.
        self._generations: list[dict[int, int | None]] = [{}]
        weakref.finalize(self, _leave, self._table).atexit = False

    @property
    def stream_id(self) -> int:
        """That at the first coordinator."""
        return self._places.stream_ids[0]

    @property
    def partitions(self) -> list[int]:
        """Those that are read."""
        return self._partitions

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes, from any coordinator."""
        return all(seat.state == "ended" for seat in self._table.seats)

    @property
    def is_shared(self) -> bool:
        """Whether others may be given what this one refuses."""
        return any(part.lease is not None for part in self._parts.values())

    def take(self, timeout: float | None = None) -> Taken | None:
        """What some coordinator has, in turns. Raises `Timeout`, and what a coordinator's reading raises."""
        deadline = None if timeout is None else time.monotonic() + timeout
        table = self._table
        with table.changed, table.asked():
            self._want()
            while True:
                if table.closed:
                    raise Cancelled("the iterator was closed while it waited for a batch", "cancelled", False)
                seat = self._next()
                if seat is not None:
                    break
                if all(one.state in ("ended", "paused") for one in table.seats):
                    return None
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise self._nothing(timeout)
                table.changed.wait(_LOOK if left is None else min(left, _LOOK))
            found, seat.found = seat.found, None
            waited = time.monotonic() - seat.since
            # Its thread reads on while the caller works on this.
            table.read(seat)
            table.changed.notify_all()
        if isinstance(found, BaseException):
            raise found
        assert found is not None, "a seat without anything is not ready"
        if seat.part.lease is not None and waited > seat.part.lease / 10:
            # It runs for the caller from now on.
            seat.part.renew(found)
        return self._as_one(seat.part.index, found)

    def schema(self, timeout: float | None = None) -> _native.SchemaCapsule | None:
        """That of the first coordinator that knows one: they are asked in turns."""
        deadline = None if timeout is None else time.monotonic() + timeout
        asked = list(self._parts.values())
        while asked:
            for part in list(asked):
                try:
                    schema = part.with_native(lambda native: native.schema(_SCHEMA_TURN))
                except Timeout:
                    if deadline is not None and time.monotonic() > deadline:
                        raise
                    continue
                if schema is not None:
                    return schema
                asked.remove(part)
        return None

    def ack_through(self, end: _native.End, generation: int | None) -> None:
        """Done with all of the partition up to there. Returns at once."""

        def ack(part: Part, there: _native.End, cursor: int | None) -> None:
            part.note_acked(there[0], there[1])
            part.tell(there, lambda native, own: native.ack_through(own, cursor))

        self._at(end, generation, ack)

    def ack_one(self, end: _native.End, generation: int | None) -> None:
        """Done with the batch that ends there. Returns at once."""

        def ack(part: Part, there: _native.End, cursor: int | None) -> None:
            part.acks_singly = True
            part.tell(there, lambda native, own: native.ack_one(own, cursor))

        self._at(end, generation, ack)

    def ack_each(self, ends: Sequence[_native.End], generation: int | None) -> None:
        """Done with the batches that end there."""
        for end in ends:
            self.ack_one(end, generation)

    def nack(self, end: _native.End, delay: float, reason: str) -> None:
        """Somebody else is to have it after `delay` seconds."""
        self._at(
            end, None, lambda part, there, _: part.tell(there, lambda native, own: native.nack(own, delay, reason))
        )

    def renew(self, end: _native.End, lasts: float) -> None:
        """It is leased for `lasts` seconds from now on."""
        self._at(end, None, lambda part, there, _: part.tell(there, lambda native, own: native.renew(own, lasts)))

    def release(self, end: _native.End) -> None:
        """Somebody else is to have it."""
        self._at(end, None, lambda part, there, _: part.tell(there, lambda native, own: native.release(own)))

    def acks_singly(self) -> None:
        """Batches will be acked one by one."""
        for part in self._parts.values():
            part.acks_singly = True

    def is_same(self, partition: int, before: int, now: int) -> bool:
        """Whether the cursor of the partition's coordinator is the same in both of these generations."""
        index, _ = self._places.place(partition)
        return self._generations[before].get(index) == self._generations[now].get(index)

    def flush_acks(self, timeout: float | None = None) -> None:
        """Waits until all acks so far are confirmed. Raises `Timeout`, `Unavailable`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for seat in self._table.seats:
            if seat.thread is not None:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                seat.part.with_native(lambda native, left=left: native.flush_acks(left))  # type: ignore[misc]

    def close(self, timeout: float | None = None) -> None:
        """Ends reading everywhere; a wait in another thread ends with `Cancelled`."""
        self._table.close(timeout)

    def _want(self) -> None:
        """All that may have something read. The lock is held."""
        seats = self._table.seats
        waiting = [seat for seat in seats if seat.state == "idle"]
        if all(seat.state in ("ended", "paused") for seat in seats):
            waiting = [seat for seat in seats if seat.state == "paused"]
        for seat in waiting:
            self._table.read(seat)
        if waiting:
            self._table.changed.notify_all()

    def _next(self) -> _Seat | None:
        """The next one in turn that has something: batches before errors."""
        seats, turn = self._table.seats, self._turn
        ready = [seat for seat in [*seats[turn:], *seats[:turn]] if seat.state == "ready"]
        seat = next((seat for seat in ready if not isinstance(seat.found, BaseException)), None)
        if seat is None:
            seat = next((seat for seat in ready if self._is_due(seat)), None)
        if seat is not None:
            self._turn = (seats.index(seat) + 1) % len(seats)
        return seat

    def _is_due(self, seat: _Seat) -> bool:
        """Whether its error is: a stream that fails does so everywhere, and what is there elsewhere comes first."""
        elsewhere = any(other.state == "reading" for other in self._table.seats)
        waited = time.monotonic() - seat.since
        return not (isinstance(seat.found, StreamFailed) and elsewhere and waited < self._patience)

    def _as_one(self, index: int, found: Taken) -> Taken:
        batches, counts, rows, facts, generation = found
        known = self._generations[-1]
        if index in known and known[index] != generation:
            self._generations.append({**known, index: generation})
        else:
            known[index] = generation
        numbered = [(self._places.number(index, fact[0]), *fact[1:]) for fact in facts]
        return batches, counts, rows, numbered, len(self._generations) - 1

    def _at(
        self, end: _native.End, generation: int | None, verb: Callable[[Part, _native.End, int | None], None]
    ) -> None:
        index, partition = self._places.place(end[0])
        cursor = None if generation is None else self._generations[generation].get(index)
        verb(self._parts[index], (partition, *end[1:]), cursor)
        table = self._table
        with table.changed:
            table.caller_at = time.monotonic()
            for seat in table.seats:
                if seat.part.index == index:
                    seat.said += 1
                    if seat.state == "paused" and not table.closed:
                        table.read(seat)
            table.changed.notify_all()

    def _nothing(self, timeout: float | None) -> Timeout:
        text = f"no batch of stream {self._places.stream} came from {len(self._parts)} coordinators within {timeout} s"
        return Timeout(f"{text}; ask again, or wait longer", "timeout", True)


def _leave(table: _Table) -> None:
    """Nobody has the iterator any more."""
    with suppress(BowstringError):
        table.close()

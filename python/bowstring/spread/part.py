"""One coordinator's share of what an iterator reads, wherever that coordinator is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

from bowstring import _native
from bowstring.client import Client
from bowstring.errors import BowstringError, Cancelled, Unavailable
from bowstring.reading import end_of
from bowstring.spread.asking import is_sought, located
from bowstring.spread.finding import Finder, Patience
from bowstring.spread.places import Places
from bowstring.starts import Start, start_text

#: What `_native.Consumer.take` gives.
Taken: TypeAlias = "tuple[_native.Batches, list[int], list[int], list[_native.Facts], int | None]"

#: Of the number of a lease.
_LEASE_BITS = 64

_T = TypeVar("_T")


class Part:
    """Reads some of a coordinator's partitions, and goes on reading them where it comes back.

    A native consumer finds its coordinator again at the same address by itself. At another address a new one takes
    over: behind what the caller has where that can be said (a static subscription whose batches are acked together, or
    none), else from the acks on, so that what is not acked comes again.
    """

    def __init__(
        self,
        finder: Finder,
        places: Places,
        index: int,
        partitions: list[int] | None,
        arguments: dict[str, Any],
        start: Start,
    ) -> None:
        self.index = index
        self._partitions = partitions
        #: Single batches are acked: then a new consumer has to be given what was not.
        self.acks_singly = False
        self._finder = finder
        self._places = places
        self._start = start
        #: The offsets that the start is, once it is known; without a subscription.
        self._begin: dict[int, int] | None = None
        self._arguments = arguments
        self._lock = threading.Lock()
        #: For the moment in which one native consumer takes the place of another.
        self._swap = threading.Lock()
        self._native: _native.Consumer | None = None
        #: How many there were before, and it.
        self._number = 0
        self._client: Client | None = None
        self._closed = False
        #: By partition, one past the last offset that was given, and up to where all is acked.
        self._given: dict[int, int] = {}
        self._acked: dict[int, int] = {}
        #: Which of the subscription's cursors that is of; None without one, and for those that share by leases.
        self._generation: int | None = None
        self.has_ended = False
        #: Of a shared subscription: seconds for which what was taken is leased.
        self.lease: float | None = None

    def take(self) -> Taken | None:
        """What is there, or None at the end, perhaps only until something is acked: see `has_ended`."""
        native, number, found = self.with_native(lambda native: (native, self._number, native.take()))
        if found is None:
            self.has_ended = native.has_ended
            return None
        found[3][:] = [_numbered(fact, number) for fact in found[3]]
        if native.is_shared:
            self.lease = self._arguments["ack_within"]
        generation = found[4]
        if generation != self._generation:
            # A seek: what was given and acked before counts no more.
            self._given, self._acked, self._generation = {}, {}, generation
        for fact in found[3]:
            extent = fact[4]
            self._given[fact[0]] = fact[1] + 1 if extent is None else extent[1]
        return found

    def with_native(self, verb: Callable[[_native.Consumer], _T]) -> _T:
        """The call of the native consumer, tried again while its coordinator is away."""
        patience = Patience(self._finder.retry_deadline if callable(self._finder.where) else 0.0)
        while True:
            native: _native.Consumer | None = None
            try:
                native = self._open()
                return verb(native)
            except Unavailable as error:
                if self._closed:
                    raise
                patience.wait(error)
                self._finder.look_again(self.index)

    def renew(self, taken: Taken) -> None:
        """What was taken of a shared subscription is leased anew."""
        lease = self.lease
        if lease is not None:
            for fact in taken[3]:
                end = end_of(fact)
                self.tell(end, lambda native, own: native.renew(own, lease))

    def release(self, taken: Taken) -> None:
        """What was taken of a shared subscription goes to anybody, and that is no failure."""
        for fact in taken[3]:
            self.tell(end_of(fact), lambda native, own: native.release(own))

    def tell(self, end: _native.End, verb: Callable[[_native.Consumer, _native.End], None]) -> None:
        """A word on a batch. It waits for nothing: while the coordinator is away it is lost, and the batch comes again.

        So it is with a batch that was leased at another address: that lease has ended, and its number may be another's.
        """
        with self._swap:
            native, number = self._native, self._number
        if native is None:
            return
        partition, offset, rows, lease = end
        if lease is not None:
            if lease >> _LEASE_BITS != number:
                return
            lease &= (1 << _LEASE_BITS) - 1
        with suppress(Unavailable):
            verb(native, (partition, offset, rows, lease))

    def note_acked(self, partition: int, before: int) -> None:
        """The caller is done with all of the partition before this offset."""
        self._acked[partition] = max(before, self._acked.get(partition, 0))

    def close(self, timeout: float | None) -> None:
        """Ends reading, also a call that waits in another thread. Raises what the last acks were refused with."""
        with self._swap:
            self._closed, native = True, self._native
        if native is not None:
            native.close(timeout)

    def _open(self) -> _native.Consumer:
        """The consumer where the coordinator is now."""
        client = self._finder.client(self.index)
        with self._lock:
            if self._closed:
                raise _cancelled()
            if self._native is None or self._client is not client:
                former, native = self._native, self._consumer(client)
                with self._swap:
                    # Who closed meanwhile knows only of the former one.
                    is_late = self._closed
                    if not is_late:
                        self._native, self._client, self._number = native, client, self._number + 1
                if is_late:
                    _give_up(native)
                    raise _cancelled()
                if former is not None:
                    _give_up(former)
            return self._native

    def _consumer(self, client: Client) -> _native.Consumer:
        arguments = {
            **self._arguments,
            "start": start_text(self._start),
            "partitions": self._partitions,
            "stream_id": self._places.stream_ids[self.index],
            "offsets": self._offsets(client),
        }
        native = client._native.consumer(self._places.stream, arguments)
        # Acks that were on their way to where it was.
        if self._generation is not None and not self.acks_singly:
            for partition, before in self._acked.items():
                native.ack_through((partition, before, 0, None), self._generation)
        return native

    def _offsets(self, client: Client) -> dict[int, int] | None:
        """Where to begin, if it is known better than by the start or the subscription."""
        stream, subscription = self._places.stream, self._arguments["subscription"]
        if subscription is None:
            if self._begin is None:
                self._begin = self._located(client)
            return {**self._begin, **self._given} or None
        if self._generation is None or self.acks_singly:
            return None
        # Else its cursor says where to go on.
        return None if is_sought(client.url, stream, subscription, self._generation) else dict(self._given)

    def _located(self, client: Client) -> dict[int, int]:
        """The offsets at which a read without a subscription starts, so that it stays so wherever it goes on."""
        stream = self._places.stream
        if isinstance(self._start, Mapping):
            return dict(self._start)
        if self._start == "earliest":
            return {}
        return located(client.url, stream, self._start)


def _numbered(fact: _native.Facts, number: int) -> _native.Facts:
    """With the consumer's number in its lease, if it has one: leases are numbered anew when a coordinator starts."""
    lease = fact[7]
    return fact if lease is None else (*fact[:7], number << _LEASE_BITS | lease, *fact[8:])


def _cancelled() -> Cancelled:
    return Cancelled("the iterator was closed while it waited for a batch", "cancelled", False)


def _give_up(native: _native.Consumer) -> None:
    """Of a coordinator that is not there any more, or of an iterator that is closed."""
    with suppress(BowstringError):
        native.close(0.0)

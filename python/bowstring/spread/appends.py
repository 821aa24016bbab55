"""What a producer appends at one coordinator, wherever that is."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa

from bowstring.appending import Producer
from bowstring.client import Client
from bowstring.errors import Fenced, InvalidArgument, StreamReplaced, Timeout, Unavailable
from bowstring.spread.asking import stored_of
from bowstring.spread.finding import Finder, Patience
from bowstring.spread.places import Places

_T = TypeVar("_T")


class Appends:
    """Batches in order, each stored once. A native producer sees to that while its coordinator stays where it is.

    If the coordinator comes back at another address, it is asked how many of that producer's batches it has stored, and
    a new native producer sends the others. So batches are kept here until they are known to be stored.
    """

    def __init__(
        self, finder: Finder, places: Places, index: int, producer_id: str, options: dict[str, Any], is_own: bool
    ) -> None:
        self._finder = finder
        self._places = places
        self._index = index
        self._producer_id = producer_id
        self._options = options
        #: Nobody else has the id: every run under it is ours.
        self._is_own = is_own
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._native: Producer | None = None
        #: What this native producer was given and is not known to have stored, with partitions. `_first` is the number
        #: of the oldest among all that it has stored.
        self._kept: deque[tuple[pa.RecordBatch, int]] = deque()
        self._first = 0
        #: Its run, once a batch of it is known to be stored, and the one that was known under its name before.
        self._run: str | None = None
        self._run_before: str | None = None
        self._stored_before = 0
        #: Whether some of what is kept was refused, or was not given over to the end, is not known.
        self._torn = False
        self._closed = False
        self._deadline: float | None = None

    @property
    def stored(self) -> int:
        """Batches known to be stored."""
        native = self._native
        return self._stored_before + (0 if native is None else native.stored)

    def append(self, batch: pa.RecordBatch, partition: int, deadline: float | None) -> None:
        """Puts a batch on its way. Raises `Timeout` at the deadline."""

        def give(native: Producer) -> None:
            native.append(batch, partition, timeout=self._left())
            self._kept.append((batch, partition))

        with self._held(deadline):
            if self._closed:
                raise InvalidArgument("the producer is closed; make a new one", "invalid_argument", False)
            self._with_native(give)

    def flush(self, deadline: float | None) -> None:
        """Waits until all so far is stored."""
        with self._held(deadline):
            if self._native is not None and not self._closed:
                self._with_native(lambda native: native.flush(self._left()))

    def close(self, deadline: float | None) -> None:
        """Waits until all is stored and says goodbye."""
        with self._held(deadline):
            if self._native is not None and not self._closed:
                self._with_native(lambda native: native.flush(self._left()))
                self._with_native(lambda native: native.close(self._left()))
            self._closed = True

    @contextmanager
    def _held(self, deadline: float | None) -> Iterator[None]:
        """One thread at a time: batches are given over in the order in which they are kept."""
        left = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._lock.acquire(timeout=left):
            text = f"other threads append to coordinator {self._index} of stream {self._places.stream}, and wait for it"
            raise Timeout(f"{text}; wait longer", "timeout", True)
        try:
            self._deadline = deadline
            yield
        finally:
            self._lock.release()

    def _left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _with_native(self, verb: Callable[[Producer], _T]) -> _T:
        """The call, tried again while the coordinator is away. The lock is held."""
        patience = Patience(self._finder.retry_deadline if callable(self._finder.where) else 0.0)
        while True:
            try:
                done = verb(self._open())
            except Unavailable as error:
                patience.wait(error)
                if self._left() == 0.0:
                    raise Timeout(f"{error}; it is waited for no longer", "timeout", True) from error
                self._finder.look_again(self._index)
            except Timeout:
                raise
            except BaseException:
                self._torn = True
                raise
            else:
                self._let_go()
                return done

    def _open(self) -> Producer:
        """The producer where the coordinator is now, which has been given all that is kept."""
        client = self._finder.client(self._index)
        if self._native is None:
            self._native, self._client = self._producer(client), client
        elif self._client is not client:
            self._move(client)
        elif self._torn:
            # Afterwards nothing of what was refused is on its way any more; else this says once more why.
            self._native.flush(self._left())
            self._kept.clear()
            self._first, self._torn = self._native.stored, False
        return self._native

    def _producer(self, client: Client) -> Producer:
        self._run_before = self._run_at(client)
        self._run = None
        return client.producer(self._places.stream, producer_id=self._producer_id, **self._options)

    def _run_at(self, client: Client) -> str | None:
        """The newest run under the producer's name, if the stream is still the same."""
        stream = self._places.stream
        description = client.describe_stream(stream)
        if description["stream_id"] != self._places.stream_ids[self._index]:
            text = f"stream {stream} at coordinator {self._index} was deleted and created again; make a new producer"
            raise StreamReplaced(text, "stream_replaced", False)
        return next((one["run"] for one in description["producers"] if one["producer"] == self._producer_id), None)

    def _let_go(self) -> None:
        """Forgets what is stored."""
        assert self._native is not None, "it has just done something"
        stored = self._native.stored
        while self._first < stored and self._kept:
            self._kept.popleft()
            self._first += 1
        if stored and self._run is None and not self._is_own and callable(self._finder.where):
            assert self._client is not None, "it is where the producer is"
            self._run = self._run_at(self._client)

    def _move(self, client: Client) -> None:
        """The coordinator is at another address: what it has not stored is sent there."""
        if self._torn:
            text = f"an append was refused or interrupted, and coordinator {self._index} has moved since"
            raise Unavailable(f"{text}: whether all is stored is not known; make a new producer", "unavailable", False)
        self._let_go()
        stored = self._stored_at(client)
        if stored < self._first:
            text = f"coordinator {self._index} knows {stored} batches of this producer, and has confirmed {self._first}"
            raise StreamReplaced(f"{text}: it was started with older data", "stream_replaced", False)
        for _ in range(stored - self._first):
            self._kept.popleft()
        native = self._producer(client)
        sent, self._kept = self._kept, deque()
        self._native, self._client, self._first = native, client, 0
        self._stored_before += stored
        while sent:
            try:
                native.append(*sent[0], timeout=self._left())
            except BaseException:
                # The next try asks again how many of all these are stored.
                self._kept.extend(sent)
                self._client = None
                raise
            self._kept.append(sent.popleft())

    def _stored_at(self, client: Client) -> int:
        """How many batches of this native producer's run the coordinator has, by its own word."""
        run = self._run_at(client)
        if self._run not in (None, run):
            text = f"a newer run of producer {self._producer_id} has taken over at coordinator {self._index}"
            raise Fenced(f"{text}; stop this one", "fenced", False)
        if not self._kept:
            return self._first
        if run is None or run == self._run_before:
            # It has never heard of this one.
            return 0
        return stored_of(client.url, self._places.stream, self._producer_id, run, self._kept[0][0].schema)

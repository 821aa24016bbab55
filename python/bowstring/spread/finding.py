"""Where the coordinators are, and for how long one may be away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bowstring.client import Client
from bowstring.errors import BowstringError, InvalidArgument, Unavailable

#: Finds the coordinators' URLs, always in the same order; None for one that is away. Clients pickle if it does.
Find = Callable[[], Sequence[str | None]]

#: Seconds for which the native client tries by itself before it is asked where the coordinator is now.
_TRY = 2.0
#: Seconds between two looks for a coordinator that is away.
_PAUSE = 0.25

_T = TypeVar("_T")


class Patience:
    """How long to go on with a coordinator that is away: `deadline` seconds from its first failure in a row."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._since: float | None = None

    def wait(self, error: BowstringError) -> None:
        """A pause, or the error itself if it has lasted too long or would not go away."""
        if not error.retryable:
            raise error
        now = time.monotonic()
        if self._since is None:
            self._since = now
        left = self._since + self._deadline - now
        if left <= 0:
            raise error
        time.sleep(min(_PAUSE, left))


class Finder:
    """The coordinators by number: their URLs, and a client of each. Any thread may use it."""

    def __init__(
        self,
        where: Sequence[str] | Find,
        timeout: float,
        retry_deadline: float,
        local_socket: bool,
        shared_memory: bool,
        secured: dict[str, Any],
    ) -> None:
        self.where = where if callable(where) else tuple(where)
        self.retry_deadline = retry_deadline
        self._timeout = timeout
        self._ways: dict[str, Any] = {"local_socket": local_socket, "shared_memory": shared_memory, **secured}
        self._lock = threading.Lock()
        self._urls = list(self._found())
        if not self._urls:
            text = "a stream needs at least one coordinator, and none is named"
            raise InvalidArgument(text, "invalid_argument", False)
        self._clients: dict[int, tuple[str, Client]] = {}

    def __len__(self) -> int:
        return len(self._urls)

    @property
    def urls(self) -> list[str | None]:
        """Where they were found last."""
        with self._lock:
            return list(self._urls)

    def client(self, index: int) -> Client:
        """A client of the coordinator where it was found last. Raises `Unavailable`."""
        while True:
            with self._lock:
                url = self._urls[index]
                known = self._clients.get(index)
            if known is not None and known[0] == url:
                return known[1]
            if url is None:
                raise self._unknown(index)
            made = self._made(url)
            with self._lock:
                known = self._clients.get(index)
                # Another thread may have made one meanwhile, or found that the coordinator is somewhere else.
                if self._urls[index] == url and (known is None or known[0] != url):
                    self._clients[index] = (url, made)

    def look_again(self, index: int) -> None:
        """After it could not be reached: it may be somewhere else now."""
        if not callable(self.where):
            return
        found = self._found()
        with self._lock:
            if len(found) != len(self._urls):
                text = f"there were {len(self._urls)} coordinators, and now {len(found)} are found; make a new client"
                raise InvalidArgument(text, "invalid_argument", False)
            url = found[index]
            if url is not None and url != self._urls[index]:
                self._urls[index] = url
                self._clients.pop(index, None)

    def call(self, index: int, verb: Callable[[Client], _T]) -> _T:
        """A call of one coordinator, wherever it is, tried again while it is away. Raises what the call does."""
        patience = Patience(self.retry_deadline if callable(self.where) else 0.0)
        while True:
            try:
                return verb(self.client(index))
            except Unavailable as error:
                patience.wait(error)
                self.look_again(index)

    def _made(self, url: str) -> Client:
        once = callable(self.where)
        return Client(
            url,
            timeout=min(self._timeout, _TRY) if once else self._timeout,
            retry_deadline=min(self.retry_deadline, _TRY) if once else self.retry_deadline,
            **self._ways,
        )

    def _found(self) -> Sequence[str | None]:
        return self.where() if callable(self.where) else self.where

    def _unknown(self, index: int) -> Unavailable:
        text = f"coordinator {index} of {len(self._urls)} is away, and nobody knows yet where it will be; try again"
        return Unavailable(text, "unavailable", True)

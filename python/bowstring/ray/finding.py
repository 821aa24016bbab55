"""The coordinators' actors by name: where they are now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError

from bowstring.errors import InvalidArgument, Unavailable

#: Seconds for which an actor may think about where it is: one that is being restarted does not answer.
_ANSWER = 2.0


class Named:
    """Finds the URLs of the coordinators of a name, None for one that is away. It pickles: what a `SpreadClient` asks.

    Raises `InvalidArgument` in a process that is no part of a Ray cluster.
    """

    def __init__(self, name: str, namespace: str, count: int) -> None:
        self.name = name
        self.namespace = namespace
        self.count = count
        self._lock = threading.Lock()
        self._actors: dict[int, Any] = {}

    def __call__(self) -> list[str | None]:
        """The URLs by number, after two seconds at most."""
        return self.ask(lambda actor: actor.url.remote())

    def ask(self, call: Callable[[Any], Any], wait: float = _ANSWER) -> list[Any]:
        """The answers of all actors within `wait` seconds, None where there is none."""
        calls = {index: actor for index in range(self.count) if (actor := self.actor(index)) is not None}
        refs: dict[int, Any] = {}
        for index, actor in calls.items():
            try:
                refs[index] = call(actor)
            except RayError:
                self._forget(index)
        ready: list[Any] = []
        if refs:
            ready, _ = ray.wait(list(refs.values()), num_returns=len(refs), timeout=wait)
        answers: list[Any] = [None] * self.count
        for index, ref in refs.items():
            if ref in ready:
                try:
                    answers[index] = ray.get(ref)
                except RayError:
                    # Restarted, or gone for good: then another one may have the name.
                    self._forget(index)
        return answers

    def actor(self, index: int) -> Any:
        """The actor's handle, None if there is none of that name."""
        check_connected()
        with self._lock:
            known = self._actors.get(index)
        if known is not None:
            return known
        try:
            found = ray.get_actor(actor_name(self.name, index), self.namespace)
        except (ValueError, RayError):
            return None
        with self._lock:
            self._actors[index] = found
        return found

    def _forget(self, index: int) -> None:
        with self._lock:
            self._actors.pop(index, None)

    def __reduce__(self) -> tuple[Any, ...]:
        return Named, (self.name, self.namespace, self.count)

    def __repr__(self) -> str:
        return f"Named({self.name!r}, {self.namespace!r}, {self.count})"


def actor_name(name: str, index: int) -> str:
    """What the actor of a coordinator is called."""
    return f"bowstring-{name}-{index}"


def find(name: str, namespace: str, timeout: float) -> Named:
    """Those of a name, once the first of them says how many there are. Raises `Unavailable` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    first = Named(name, namespace, 1)
    while True:
        (count,) = first.ask(lambda actor: actor.count.remote())
        if count is not None:
            return Named(name, namespace, count)
        if time.monotonic() >= deadline:
            text = f"no coordinators are called {name!r} in the namespace {namespace!r}, or the first of them is away"
            raise Unavailable(f"{text}; start them with bowstring.ray.start_coordinators", "unavailable", True)
        time.sleep(0.1)


def check_connected() -> None:
    """Raises `InvalidArgument` where Ray would start a cluster of its own."""
    if not ray.is_initialized():
        text = 'this process is no part of a Ray cluster; call ray.init(address="auto"), or ray.init() for a new one'
        raise InvalidArgument(text, "invalid_argument", False)

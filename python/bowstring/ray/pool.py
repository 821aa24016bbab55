"""A pool of Ray actors that work on a stream, as many as its lag asks for."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Condition, Event, RLock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any

import ray

from bowstring.client import connect
from bowstring.errors import BowstringError, InvalidArgument, Timeout
from bowstring.outputs import lag_of
from bowstring.ray.consumers import Member
from bowstring.ray.moments import Moment, PoolStats
from bowstring.ray.scaling import Rest, Scaling
from bowstring.sharing import Sharing
from bowstring.working import Done

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import Self

    from bowstring.client import Client

_LOGGER = logging.getLogger("bowstring")
#: Moments that a pool remembers: an hour of seconds.
_HISTORY_MAX = 3600
#: Actors that died one after the other before any came up: what they are made of cannot work.
_STILLBORN_MAX = 5


class ConsumerPool:
    """Ray actors that each call `fn` with batches of a shared subscription, as many as its lag asks for.

    Each is a `bowstring.working.Worker`, which says what an `output` promises, what becomes of a batch that `fn`
    refuses, and what `fn` returns. The number follows the lag: one consumer for each `target_lag` that is not acked,
    more at once, fewer after `shrink_after` seconds. A consumer that is not needed finishes and acks its batch before
    it goes; one that dies is replaced, and its batch comes again to another. Those that Ray has no room for stay
    pending, which is what makes Ray's autoscaler add nodes; nobody waits for them.

    A thread of this process looks after them. What is done and what is not is known to the coordinator alone: if this
    process ends, Ray ends the actors, and another pool of the same subscription goes on.

    A context manager: leaving the block stops it, and raises what `join` would have raised and has not.

    Args:
        fn: a function of a `pyarrow.RecordBatch`; or a class, made once per actor and called then: a model.
        stream: the stream's name.
        url, client: of the coordinator: one of the two. A client pickles, and is one that actors can reach.
        subscription: the shared subscription; made if it does not exist.
        output, output_client: the stream for what `fn` returns, exactly once; its coordinator's client, if another.
        output_routing: which partition of the output each row goes to, for instance "hash(user)"; all of a batch's
            results to one by default.
        sharing: how a new subscription is shared: when rows go to the dead letters.
        min_consumers, max_consumers: how many there are; with 0, none while there is nothing to do.
        target_lag: how much that is not acked is right for one consumer. A stream holds `max_buffered_batches`, 64 by
            default: a lag can grow no further, so that 64 / `target_lag` consumers are the most.
        lag_unit: what it is in: "batches" or "rows".
        interval: seconds between two looks at the lag.
        shrink_after: seconds for which fewer are to be enough before consumers go.
        ack_within: seconds that a batch may take; then others get it.
        lease: seconds until others get the batch of an actor that dies.
        fn_constructor_kwargs: what `fn` is made with, if it is a class.
        num_cpus, num_gpus, resources: of each actor, as Ray counts them.
        actor_options: other options of Ray's actors, for instance `runtime_env` or `scheduling_strategy`.

    Raises `InvalidArgument`, `StreamNotFound`, `Unavailable`.
    """

    def __init__(
        self,
        fn: Callable[[pa.RecordBatch], Any] | type[Any],
        stream: str,
        *,
        url: str | None = None,
        client: Client | None = None,
        subscription: str = "default",
        output: str | None = None,
        output_client: Client | None = None,
        output_routing: str | None = None,
        sharing: Sharing | None = None,
        min_consumers: int = 1,
        max_consumers: int = 80,
        target_lag: float = 4,
        lag_unit: str = "batches",
        interval: float = 1.0,
        shrink_after: float = 10.0,
        ack_within: float = 60.0,
        lease: float = 10.0,
        fn_constructor_kwargs: Mapping[str, Any] | None = None,
        num_cpus: float = 1,
        num_gpus: float | None = None,
        resources: Mapping[str, float] | None = None,
        actor_options: Mapping[str, Any] | None = None,
    ) -> None:
        if lag_unit not in ("batches", "rows"):
            raise InvalidArgument(f"lag_unit is {lag_unit!r}; use 'batches' or 'rows'", "invalid_argument", False)
        self._scaling = Scaling(min_consumers, max_consumers, target_lag, shrink_after)
        self._client = _client_of(url, client)
        self._stream = stream
        self._subscription = subscription
        self._lag_unit = lag_unit
        self._interval = interval
        self._rest = Rest(interval)
        self._client.subscribe(stream, subscription, mode="shared", sharing=sharing)
        # Once for all actors: a model may be large.
        self._arguments = ray.put(
            {
                "client": self._client,
                "stream": stream,
                "fn": fn,
                "fn_constructor_kwargs": fn_constructor_kwargs,
                "subscription": subscription,
                "output": output,
                "output_client": output_client,
                "output_routing": output_routing,
                "sharing": sharing,
                "ack_within": ack_within,
                "lease": lease,
            }
        )
        options = {"num_cpus": num_cpus, "num_gpus": num_gpus, "resources": resources and dict(resources)}
        self._options = {name: value for name, value in options.items() if value is not None}
        self._options.update(actor_options or {})
        #: Held by who asks Ray, or tells it, of members. Taken before the other lock.
        self._handling = RLock()
        #: Held while what is known changes, and never while Ray is asked; told when the pool is done.
        self._changed = Condition(RLock())
        self._members: list[Member] = []
        self._gone: list[Done] = []
        self._history: deque[Moment] = deque(maxlen=_HISTORY_MAX)
        self._lag = 0
        self._started = self._died = self._stillborn = 0
        self._has_ended = self._is_joined = self._is_done = self._is_told = False
        self._failure: BaseException | None = None
        self._stops = Event()
        self._thread = Thread(target=self._look_after, name=f"bowstring-pool-{stream}", daemon=True)
        self._thread.start()

    @property
    def size(self) -> int:
        """Consumers that there are or that Ray has no room for yet, without those that are leaving."""
        with self._changed:
            return self._size()

    def history(self) -> list[Moment]:
        """What the pool saw each time that it looked, the last 3600 times."""
        with self._changed:
            return list(self._history)

    def stats(self) -> PoolStats:
        """What it has done so far, as its consumers last told."""
        with self._changed:
            known = [one.last for one in self._members if one.last is not None]
            every = self._gone + known
            return PoolStats(
                size=self._size(),
                pending=sum(one.last is None for one in self._members),
                leaving=sum(one.is_leaving for one in self._members),
                busy=sum(one.busy for one in known),
                lag=self._lag,
                started=self._started,
                died=self._died,
                batches=sum(one.batches for one in every),
                rows=sum(one.rows for one in every),
                failures=sum(one.failures for one in every),
                repeated=sum(one.repeated for one in every),
                busy_seconds=math.fsum(one.busy_seconds for one in every),
            )

    def join(self, timeout: float | None = None) -> None:
        """Waits until the stream has ended and all of it is acked; then the consumers are gone.

        Raises `Timeout` after `timeout` seconds, and may be called again; what a consumer's `run` raised, for instance
        `StreamFailed`; the last actor's error if five that followed one another died before they were up and none is;
        and `InvalidArgument` if the pool was stopped, or Ray shut down.
        """
        with self._changed:
            self._is_joined = True
            if not self._changed.wait_for(lambda: self._is_done or self._stops.is_set(), timeout):
                what = f"stream {self._stream} is not done after {timeout} s: a lag of {self._lag} {self._lag_unit}"
                raise Timeout(f"{what}, {self._size()} consumers; wait longer, or complete it", "timeout", True)
        self._raise_failure()
        if not self._is_done:
            reason = f"the pool of stream {self._stream} was stopped before all was acked; make another to go on"
            raise InvalidArgument(reason, "invalid_argument", False)

    def stop(self, timeout: float = 60.0) -> None:
        """Lets all consumers finish and ack what they have, and go; those that have not in `timeout` seconds are ended.

        Does nothing the second time.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._stops.set()
            self._changed.notify_all()
        is_alone = self._handling.acquire(timeout=timeout)
        try:
            with self._changed:
                members = list(self._members)
            self._all_leave()
            for one in members:
                if ray.is_initialized():
                    with suppress(ray.exceptions.RayError):
                        ray.wait([one.running], timeout=max(0.0, deadline - time.monotonic()))
                        if is_alone:
                            one.look()
                        one.kill()
                self._note_gone(one)
        finally:
            if is_alone:
                self._handling.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None and not self._is_told:
            self._raise_failure()

    def __repr__(self) -> str:
        return f"ConsumerPool(stream={self._stream!r}, subscription={self._subscription!r}, size={self.size})"

    def _size(self) -> int:
        return sum(not one.is_leaving for one in self._members)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            self._is_told = True
            raise self._failure

    def _look_after(self) -> None:
        try:
            # To ask a Ray that was shut down would start another.
            while not self._stops.is_set() and ray.is_initialized():
                try:
                    self._look()
                except Exception as error:  # noqa: BLE001 - told to who joins, since nobody looks after it any more
                    if ray.is_initialized():
                        self._fail(error)
                self._stops.wait(self._interval)
        finally:
            if not self._stops.is_set():
                reason = f"Ray was shut down under the pool of stream {self._stream}; make another one to go on"
                self._fail(InvalidArgument(reason, "invalid_argument", False))

    def _look(self) -> None:
        lag = self._ask_lag()
        with self._handling:
            if self._stops.is_set() or not ray.is_initialized():
                return
            self._see_who_is_gone()
            self._resize(lag)
        with self._changed:
            self._history.append(Moment(time.time(), lag, self._size()))

    def _ask_lag(self) -> int | None:
        """None while the coordinator does not answer; the consumers wait for it by themselves."""
        try:
            total = lag_of(self._client, self._stream, self._subscription).total
        except BowstringError as error:
            if not error.retryable:
                raise
            _LOGGER.warning("the pool of stream %r goes on without its lag: %s", self._stream, error)
            return None
        self._lag = total.batches if self._lag_unit == "batches" else total.rows
        return self._lag

    def _see_who_is_gone(self) -> None:
        for one in list(self._members):
            before = one.last
            is_gone = one.look()
            if before is None and one.last is not None:
                self._stillborn = 0
            if one.last is not None and one.last.batches and not (before and before.batches):
                self._rest.end()
            if not is_gone:
                continue
            self._note_gone(one)
            if one.error is None:
                self._has_ended |= one.has_ended
                one.kill()
            elif not one.has_died:
                # Its error may keep it alive otherwise.
                one.kill()
                self._fail(one.error)
            elif not one.is_leaving:
                self._note_death(one, one.error)

    def _note_gone(self, one: Member) -> None:
        with self._changed:
            if one in self._members:
                self._members.remove(one)
                self._gone.extend([] if one.last is None else [one.last])

    def _note_death(self, one: Member, error: BaseException) -> None:
        with self._changed:
            self._died += 1
        if one.last is None:
            self._stillborn += 1
        if one.last is None or not one.last.batches:
            self._rest.extend(time.monotonic())
        if self._stillborn >= _STILLBORN_MAX and all(other.last is None for other in self._members):
            self._fail(error)
        _LOGGER.warning("a consumer of stream %r has died and is replaced: %s", self._stream, error)

    def _resize(self, lag: int | None) -> None:
        if self._failure is not None:
            return
        if self._has_ended:
            self._come_to_the_end(lag)
            return
        wanted = self._scaling.size(time.monotonic(), lag)
        if self._is_joined:
            # Somebody has to see the end.
            wanted = max(1, wanted)
        here = [one for one in self._members if not one.is_leaving]
        for _ in range(wanted - len(here)):
            if self._rest.is_over(time.monotonic()):
                self._start()
        # Those first that have not started or have nothing to do, then the newest.
        newest = list(reversed(here))
        newest.sort(key=lambda one: 0 if one.last is None else 1 + one.last.busy)
        for one in newest[: max(0, len(here) - wanted)]:
            one.leave()

    def _come_to_the_end(self, lag: int | None) -> None:
        """The stream has ended, and one has seen that all is acked: the others see it, too."""
        for one in self._members:
            if one.last is None and not one.is_leaving:
                one.leave()
        if not self._members and lag == 0:
            with self._changed:
                self._is_done = True
                self._stops.set()
                self._changed.notify_all()
        elif not self._members and lag is not None and self._rest.is_over(time.monotonic()):
            self._start()

    def _start(self) -> None:
        one = Member(self._arguments, self._options)
        with self._changed:
            self._members.append(one)
            self._started += 1

    def _fail(self, error: BaseException) -> None:
        """No consumer can do better: who joins is told, and all of them leave."""
        with self._changed:
            self._failure = self._failure or error
            self._stops.set()
            self._changed.notify_all()
        with self._handling:
            self._all_leave()

    def _all_leave(self) -> None:
        for one in list(self._members):
            # To ask a Ray that was shut down would start another.
            if ray.is_initialized():
                with suppress(ray.exceptions.RayError):
                    one.leave()
            one.is_leaving = True


def _client_of(url: str | None, client: Client | None) -> Client:
    if (url is None) == (client is None):
        raise InvalidArgument("name the coordinator by url or by client: by one of the two", "invalid_argument", False)
    return connect(url) if url is not None else client  # type: ignore[return-value]

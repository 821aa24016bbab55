"""Work on a shared subscription, batch by batch, with an output that has each batch's results exactly once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

from bowstring.errors import (
    BowstringError,
    BufferFull,
    EpochError,
    InvalidArgument,
    LeaseLost,
    SpoolFull,
    StreamEnded,
    StreamFailed,
    StreamNotFound,
    StreamReplaced,
    Timeout,
    Unavailable,
)
from bowstring.outputs import Output, tables_of
from bowstring.sharing import Sharing, reason_of

if TYPE_CHECKING:
    import pyarrow as pa

    from bowstring.client import Client
    from bowstring.handles import BatchHandle

_LOGGER = logging.getLogger("bowstring")
#: Seconds after which who waits for a batch looks whether it is to stop.
_TURN = 0.5
#: Seconds that a worker waits after what it cannot do now, at first and at most.
_PAUSE, _PAUSE_MAX = 0.01, 1.0
#: Seconds after which one who pauses looks whether it is to stop.
_STEP = 0.05
#: Errors of an output that no other try mends, and no other batch either.
_ENDS_OUTPUT = (StreamEnded, StreamFailed, StreamNotFound, StreamReplaced)
#: The output has no room for the results, which may change: other results would have none either.
_WAITS_FOR_ROOM = (BufferFull, SpoolFull, Timeout)


@dataclass(frozen=True)
class Done:
    """What a worker has done so far.

    Attributes:
        batches, rows: worked on and acked.
        failures: batches that the function, or the output, refused.
        repeated: batches whose results were there already, from a worker that did not come to ack them.
        busy: whether it works on a batch now.
        busy_seconds: seconds that it has worked on batches.
    """

    batches: int = 0
    rows: int = 0
    failures: int = 0
    repeated: int = 0
    busy: bool = False
    busy_seconds: float = 0.0


class Worker:
    """Calls a function with each batch that it is given of a shared subscription, and acks what came to its end.

    With an `output`, what the function returns is appended there: the results of each batch all at once and exactly
    once, whenever and however workers are killed, hang, or have the same batch at the same time. The function itself
    may be called more than once with a batch. Without one, what it returns is dropped.

    What the function raises refuses the batch: it goes to anybody again, and after `sharing.max_deliveries` to the dead
    letters, with the reason. One that takes longer than `ack_within` has failed, too: others get its batch, and if it
    comes to its end nevertheless its results count unless theirs are there. Only then, if the batch has gone to the
    dead letters meanwhile, is it there and in the output. Waiting for room in the output is no part of that time: the
    batch stays the worker's, and after half of `ack_within` without room it is given back, which is no failure.

    Args:
        client: of the coordinator that has the stream.
        stream: its name; waited for up to a minute.
        fn: called with a `pyarrow.RecordBatch`; or a class, made once by `run` and called then. With an output it
            returns None, anything with `__arrow_c_stream__` or `__arrow_c_array__`, a pandas frame, or several of them.
        fn_constructor_kwargs: what a class is made with.
        subscription: the shared subscription; made if it does not exist.
        output: the stream for the results; made, with as many partitions, if it does not exist.
        output_client: of the coordinator that has the output; `client` by default.
        output_routing: which partition of the output each row goes to, for instance "hash(user)": see `Output`.
        sharing: how a new subscription is shared; with an output without `keys` and `bisect`.
        ack_within: seconds that the function may take for a batch: from 0.1 to 86,400.
        lease: seconds until others have the batch of one whose process dies: from 0.1 to 3600.
        consumer: what it calls itself to whoever asks; this process as "host/pid" by default.
    """

    def __init__(
        self,
        client: Client,
        stream: str,
        fn: Callable[[pa.RecordBatch], Any] | type[Any],
        *,
        fn_constructor_kwargs: Mapping[str, Any] | None = None,
        subscription: str = "default",
        output: str | None = None,
        output_client: Client | None = None,
        output_routing: str | None = None,
        sharing: Sharing | None = None,
        ack_within: float = 60.0,
        lease: float = 10.0,
        consumer: str | None = None,
    ) -> None:
        self._client = client
        self._output_client = output_client
        self._stream = stream
        self._fn = fn
        self._kwargs = dict(fn_constructor_kwargs or {})
        self._subscription = subscription
        self._output_name = output
        self._output_routing = output_routing
        self._sharing = sharing
        self._ack_within = ack_within
        self._lease = lease
        self._consumer = consumer
        # No event: what `stop` does has to be right in a signal's handler, whatever it has interrupted.
        self._stops = False
        self._lock = Lock()
        self._done = Done()
        self._output: Output | None = None
        self._pause = _PAUSE

    def run(self) -> bool:
        """Works until all of the stream is acked (True), or until `stop` (False).

        A coordinator that cannot be reached is waited for. Raises what making `fn` raises; `StreamFailed` after what
        was there before the failure; `StreamNotFound`, `StreamReplaced`, `SubscriptionEvicted`, `InvalidArgument`;
        `StreamEnded` if the output takes no more, and `BufferFull` ("too_many") if it remembers too many producers.
        """
        work = self._fn(**self._kwargs) if isinstance(self._fn, type) else self._fn
        while not self._stops:
            try:
                if self._read(work):
                    return True
            except Unavailable:
                self._wait()
        return False

    def stop(self) -> None:
        """Lets it come to the end of the batch that it has, ack it and end.

        Returns at once; any thread may call it, and the handler of a signal: it takes no lock.
        """
        self._stops = True

    def done(self) -> Done:
        """What it has done so far. Any thread may ask."""
        with self._lock:
            return self._done

    def _read(self, work: Callable[[pa.RecordBatch], Any]) -> bool:
        """Whether the stream has come to its end, by one iterator; False if it is to be read by another."""
        iterator = self._client.iterator(
            self._stream,
            subscription=self._subscription,
            mode="shared",
            sharing=self._sharing,
            auto_ack=False,
            ack_within=self._ack_within,
            lease=self._lease,
            consumer=self._consumer,
            timeout=_TURN,
            # One at a time: what waits here could be worked on elsewhere.
            prefetch_batches=1,
            max_in_flight_batches=1,
        )
        handles = iterator.handles()
        try:
            if self._output_name is not None:
                # It waits for the stream.
                stream_id = iterator._open().stream_id
                self._client.subscribe(self._stream, self._subscription, mode="shared", sharing=self._sharing)
                names = (self._stream, self._subscription, self._output_name)
                # Made anew with each iterator, since its names are of one stream and subscription: while nobody could
                # be reached others may have come in their place, whose results are others.
                self._output = Output(self._client, *names, self._output_client, self._output_routing)
                if self._output.stream_ids[0] != stream_id:
                    self._wait()
                    return False
            while not self._stops:
                try:
                    handle = next(handles)
                except StopIteration:
                    return True
                except (Timeout, LeaseLost):
                    # Nothing came; or an ack came too late, and somebody else has that batch.
                    continue
                self._take_turn(handle, work)
            return False
        finally:
            _close(iterator)

    def _take_turn(self, handle: BatchHandle, work: Callable[[pa.RecordBatch], Any]) -> None:
        if self._output is not None and not self._has_turn(self._output, handle):
            # Not held meanwhile: what it waits for may have to come to this worker.
            handle.release()
            self._wait()
            return
        began = time.monotonic()
        self._note(busy=True)
        try:
            self._work_on(handle, work, began)
        finally:
            self._note(busy=False, busy_seconds=self._done.busy_seconds + time.monotonic() - began)

    def _has_turn(self, output: Output, handle: BatchHandle) -> bool:
        try:
            return output.has_turn(handle)
        except Timeout:
            return False

    def _work_on(self, handle: BatchHandle, work: Callable[[pa.RecordBatch], Any], began: float) -> None:
        output = self._output
        try:
            is_new = output is None or output.begin(handle)
        except InvalidArgument:
            handle.release()
            raise
        except BowstringError as error:
            self._settle_refusal(handle, error)
            return
        if is_new:
            try:
                result = work(handle.batch)
                results = tables_of(result) if output is not None else []
            except Exception as error:  # noqa: BLE001 - the function's, and its batch's reason
                self._refuse(handle, error)
                return
            if output is not None:
                try:
                    with _kept(handle, began, self._ack_within) as goes_on:
                        is_new = output.commit(handle, results, self._ack_within / 2, goes_on)
                except Exception as error:  # noqa: BLE001 - a result's own, or the output's
                    self._settle_refusal(handle, error)
                    return
        self._pause = _PAUSE
        handle.ack()
        done = self._done
        rows = done.rows + handle.batch.num_rows
        self._note(batches=done.batches + 1, rows=rows, repeated=done.repeated + (not is_new))

    def _settle_refusal(self, handle: BatchHandle, error: Exception) -> None:
        """The output has not taken the results."""
        if isinstance(error, _ENDS_OUTPUT) or (isinstance(error, BowstringError) and error.code == "too_many"):
            handle.release()
            raise error
        if isinstance(error, _WAITS_FOR_ROOM):
            _LOGGER.warning("a worker on stream %r waits for room in its output: %s", self._stream, error)
            self._abort(handle)
            handle.release()
            self._wait()
            return
        if isinstance(error, EpochError) or (isinstance(error, BowstringError) and error.retryable):
            # Another worker has failed with the same batch, or the coordinator is away: the batch is as good as before.
            handle.release()
            self._wait()
            return
        self._refuse(handle, error)

    def _refuse(self, handle: BatchHandle, error: Exception) -> None:
        self._note(failures=self._done.failures + 1)
        self._abort(handle)
        handle.nack(reason=reason_of(error))

    def _abort(self, handle: BatchHandle) -> None:
        if self._output is not None:
            # Where that cannot be: what is staged ends with the next commit in its slot.
            with suppress(BowstringError):
                self._output.abort(handle)

    def _wait(self) -> None:
        until = time.monotonic() + self._pause
        while not self._stops and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _STEP))
        self._pause = min(2 * self._pause, _PAUSE_MAX)

    def _note(self, **changes: Any) -> None:
        with self._lock:
            self._done = replace(self._done, **changes)


@contextmanager
def _kept(handle: BatchHandle, began: float, ack_within: float) -> Iterator[Callable[[], None]]:
    """Meanwhile the batch does not go to others, unless `ack_within` passes without a call of what this gives.

    Its function came to its end in time, and only the output is waited for; but the results may be made as they are
    appended, and hang.
    """
    ends = Event()
    latest = time.monotonic()

    def goes_on() -> None:
        nonlocal latest
        latest = time.monotonic()

    def renew() -> None:
        pause = max(0.0, began + ack_within / 3 - time.monotonic())
        while not ends.wait(pause) and time.monotonic() < latest + ack_within:
            pause = ack_within / 3
            with suppress(BowstringError):
                handle.renew(ack_within)

    keeper = Thread(target=renew, name="bowstring-worker-keeps", daemon=True)
    keeper.start()
    try:
        yield goes_on
    finally:
        ends.set()
        keeper.join()


def _close(iterator: Any) -> None:
    """Confirms the acks, if they can be: what is not acked comes again, and is known then."""
    with suppress(LeaseLost, Timeout, Unavailable):
        iterator.close(10.0)

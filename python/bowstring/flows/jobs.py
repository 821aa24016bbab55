"""A flow with a target: it is run here or in a thread, stopped, and run again."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pyarrow as pa

from bowstring.errors import InvalidArgument, StreamNotFound, Timeout
from bowstring.flows.reading import Reader
from bowstring.flows.running import Run
from bowstring.flows.sinks import sink_of

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from bowstring import _native
    from bowstring.flows.building import Flow, Target
    from bowstring.iterator import StreamingIterator

#: Longest that nothing is looked at, in seconds: so soon a `stop` takes effect.
_TICK = 0.25
#: How long streams are waited for that are not there yet, in seconds; iterators do as long.
_STREAM_WAIT = 60.0
#: How long a job that has to end because of an exception may take to say why it has itself, in seconds.
_PATIENCE = 2.0


class Job:
    """A flow with a target. `run` runs it in this thread; `start` and `stop` in one of its own, also as a `with` block.

    Each job reads its subscription alone. With a state a second one is refused, and two copies of a state fence each
    other. Without, nobody knows: two jobs that read one subscription put out two results.
    """

    def __init__(
        self,
        flow: Flow,
        target: Target,
        *,
        state: str | None,
        save_every_micros: int,
        memory_bytes_max: int,
        complete: bool,
        name: str,
    ) -> None:
        self._flow = flow
        self._target = target
        self._directory = state
        self._save_every = save_every_micros / 1_000_000
        self._memory_bytes_max = memory_bytes_max
        self._complete = complete
        self.name = name
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._state: _native.FlowState | None = None
        #: Late rows and watermark, once it has run.
        self._ended: tuple[int, int | None] = (0, None)

    @property
    def watermark_micros(self) -> int | None:
        """Up to when all rows are taken to have come, in microseconds since 1970; None before there is one."""
        return self._ended[1] if self._state is None else self._state.watermark_micros

    @property
    def late_rows(self) -> int:
        """Rows that came too late since the flow's beginning, those without a time included."""
        return self._ended[0] if self._state is None else self._state.late_rows

    def run(self) -> None:
        """Runs until the streams have ended, or `stop`. All that it has read then is in results that are out, or saved.

        Raises `InvalidArgument` for what cannot be, before a batch is read; `StreamNotFound` if a stream is not there
        within a minute; `QueryFailed` if an expression has no value for a row; `StreamFailed`, after what came before;
        what functions raise; and what reading and appending raise. After an exception a new run goes on from what was
        saved last.
        """
        self._stopped.clear()
        self._run()

    def start(self) -> Job:
        """Subscribes, then runs in a thread. What `run` would raise, `wait` and `stop` do."""
        if self._thread is not None and self._thread.is_alive():
            raise InvalidArgument("the job runs already; stop it first", "invalid_argument", False)
        self._stopped.clear()
        self._error = None
        # What is acked from now on is not missed.
        with contextlib.suppress(StreamNotFound):
            self._subscribe()
        self._thread = threading.Thread(target=self._run_quietly, name=f"bowstring-flow-{self.name}", daemon=True)
        self._thread.start()
        return self

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it has ended, and says whether it has. Raises what `run` raises."""
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                return False
        if self._error is not None:
            raise self._error
        return True

    def stop(self, timeout: float | None = None) -> bool:
        """Ends it after the batch that it is at. Waits as `wait` does.

        Its state is saved, and so are results that the output has no room for: the next run hands them over.
        """
        self._stopped.set()
        return self.wait(timeout)

    def __enter__(self) -> Self:
        if self._thread is None or not self._thread.is_alive():
            self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.stop()
            return
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)
        if self._error is not None:
            # Whoever waited for its results in vain learns why.
            raise self._error from value

    def _run_quietly(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it.
            self._error = error

    def _run(self) -> None:
        with contextlib.ExitStack() as opened:
            self._wait_for_streams()
            readers = self._readers(opened)
            if self._stopped.is_set():
                return
            if any(not of_input for of_input in readers):
                # Nothing has come, and nothing will.
                self._complete_outputs()
                return
            try:
                Run(self, [reader for of_input in readers for reader in of_input]).all()
            finally:
                # Whoever opens the directory next can do so at once.
                if self._state is not None:
                    self._ended = (self._state.late_rows, self._state.watermark_micros)
                    self._state.close()
                    self._state = None

    def _subscribe(self) -> None:
        for subscription in self._flow.subscriptions():
            subscription._client.subscribe(subscription.stream, subscription.name)

    def _wait_for_streams(self) -> None:
        """Subscribes to all of them before one is read: none is waited for while another goes on."""
        until = time.monotonic() + _STREAM_WAIT
        while True:
            try:
                self._subscribe()
            except StreamNotFound:
                if time.monotonic() > until:
                    raise
            else:
                return
            if self._stopped.wait(self._tick):
                return

    def _readers(self, opened: contextlib.ExitStack) -> list[list[Reader]]:
        """Of each input's sources, once the schemas of their batches are known; not of those that ended without one."""
        readers: list[list[Reader]] = []
        first = 0
        for number, sources in enumerate(self._flow.inputs()):
            readers.append([])
            for source in sources:
                iterator = opened.enter_context(source.subscription.iterator(auto_ack=False, timeout=self._tick))
                schema = self._schema(iterator)
                if self._stopped.is_set():
                    return readers
                if schema is not None:
                    readers[-1].append(Reader(source, number, first, iterator, schema))
                first += len(iterator.partitions)
        return readers

    def _schema(self, iterator: StreamingIterator) -> pa.Schema | None:
        while not self._stopped.is_set():
            try:
                return iterator.schema
            except Timeout:
                continue
        return None

    def _complete_outputs(self) -> None:
        if self._complete:
            client = self._flow.subscriptions()[0]._client
            for target in (self._target, self._flow.late):
                if target is not None:
                    sink_of(target, client, self.name, None).complete()

    @property
    def _tick(self) -> float:
        """How long is waited at once, in seconds."""
        return min(_TICK, max(self._save_every, 0.01))

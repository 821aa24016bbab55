"""Where a flow's results go."""

from __future__ import annotations

import functools
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import pyarrow as pa

from bowstring.errors import Fenced, InvalidArgument, StreamNotFound, Timeout

if TYPE_CHECKING:
    from bowstring.client import Client


_T = TypeVar("_T")
#: How long is waited for room before it is looked whether the flow is stopped, in seconds.
_TICK = 0.25


class StoppedError(Exception):
    """The flow was stopped while it waited for room for its results."""


class Sink(Protocol):
    """Takes the results of a flow, epoch by epoch."""

    def claim(self, epoch: int) -> None:
        """An epoch will come that was never delivered."""

    def deliver(
        self, epoch: int, batches: Sequence[pa.RecordBatch], *, is_replay: bool, stopped: threading.Event
    ) -> None:
        """Takes the results of one epoch; a replay, after a crash, may be of what it has already.

        Raises `StoppedError` if it has to wait, and the flow is stopped.
        """

    def complete(self) -> None:
        """Nothing comes any more."""


class StreamSink:
    """A stream, which has the results of each epoch once: the flow is a producer whose epochs are numbered.

    A newer run of the flow fences an older one that is still there: that raises `Fenced`.
    """

    def __init__(self, client: Client, stream: str, producer: str, schema: pa.Schema | None) -> None:
        """With a schema, the results'. Raises `InvalidArgument` for a stream that cannot have them."""
        self._client = client
        self._stream = stream
        self._producer = producer
        self._run = secrets.token_hex(8)
        try:
            found = client.describe_stream(stream)
        except StreamNotFound:
            found = client.create_stream(stream, schema=schema, if_not_exists=True)
        if (shown := found["options"]["visibility"]) != "committed":
            reason = f"stream {stream} shows batches before their epoch is committed (visibility is {shown})"
            raise InvalidArgument(f"{reason}; use one of visibility committed", "invalid_argument", False)
        of_stream = found["schema"]
        if schema is not None and of_stream is not None and found["options"]["schema_policy"] == "strict":
            # Said now, and not when there are results that cannot go anywhere.
            wanted, given = _columns(of_stream), _columns(schema)
            if wanted != given:
                reason = f"the results have columns {given}, and stream {stream} has {wanted}"
                raise InvalidArgument(f"{reason}: map them, or use another stream", "invalid_argument", False)

    def claim(self, epoch: int) -> None:
        """Raises `Fenced` if the stream has the epoch already: somebody else goes on from a copy of the state.

        That is asked before the state is saved, since the copy's epoch is not made of the same batches.
        """
        if self._client.open_epoch(self._stream, self._producer, self._run, epoch) == "already_committed":
            reason = f"epoch {epoch} of flow {self._producer} is in stream {self._stream} by another run of it"
            raise Fenced(f"{reason}: a copy of its state is in use; go on with that", "fenced", False)

    def deliver(
        self, epoch: int, batches: Sequence[pa.RecordBatch], *, is_replay: bool, stopped: threading.Event
    ) -> None:
        """Commits them as one epoch; of a replay, unless it is committed already. Raises `Fenced`, `StoppedError`."""
        if is_replay:
            opened = self._client.open_epoch(self._stream, self._producer, self._run, epoch)
            if opened == "already_committed":
                return
        attempt = secrets.randbits(63)
        writer = self._client.writer(
            self._stream, producer=self._producer, run=self._run, epoch=epoch, task=0, attempt=attempt
        )
        for batch in batches:
            _patiently(functools.partial(writer.append, batch), stopped)
        receipt = _patiently(writer.finish, stopped)
        receipts = [] if receipt is None else [receipt]
        self._client.commit_epoch(self._stream, self._producer, self._run, epoch, receipts)

    def complete(self) -> None:
        """No result comes any more."""
        self._client.complete_stream(self._stream)


class FunctionSink:
    """A function of each batch."""

    def __init__(self, function: Callable[[pa.RecordBatch], object]) -> None:
        self._function = function

    def claim(self, epoch: int) -> None:
        """A function is called with whatever comes."""

    def deliver(
        self, epoch: int, batches: Sequence[pa.RecordBatch], *, is_replay: bool, stopped: threading.Event
    ) -> None:
        """Calls it."""
        for batch in batches:
            if self._function is print:
                for row in batch.to_pylist():
                    print(row)
            else:
                self._function(batch)

    def complete(self) -> None:
        """Functions have no end."""


def sink_of(
    target: str | Callable[[pa.RecordBatch], object], client: Client, producer: str, schema: pa.Schema | None
) -> Sink:
    """The sink that a user means, for results of a schema."""
    return StreamSink(client, target, producer, schema) if isinstance(target, str) else FunctionSink(target)


def _patiently(work: Callable[..., _T], stopped: threading.Event) -> _T:
    """Tries until there is room, or the flow is stopped."""
    while True:
        try:
            return work(timeout=_TICK)
        except Timeout:
            if stopped.is_set():
                raise StoppedError from None


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)

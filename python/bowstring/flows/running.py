"""A flow that runs: it reads, keeps its state together with the offsets that it reflects, and hands over results."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bowstring import _native
from bowstring.errors import BowstringError, InvalidArgument
from bowstring.flows.operators import Aggregation, Join
from bowstring.flows.reading import Reader, reading
from bowstring.flows.sinks import Sink, StoppedError, sink_of
from bowstring.flows.stages import Pipeline, name_of

if TYPE_CHECKING:
    from bowstring.flows.jobs import Job
    from bowstring.reading import Delivered

_RESULTS, _LATE = "results", "late"
#: So many rows of results are one batch at most.
_ROWS_MAX = 1 << 16


class Run:
    """One run of a job."""

    def __init__(self, job: Job, readers: list[Reader]) -> None:
        flow = job._flow
        self._job = job
        self._readers = readers
        operator = flow.operator
        if operator is not None:
            for reader in readers:
                # Done together with the operator, so that its results do not come here and go back.
                reader.fused = reader.before.last_rows()
        schemas = [_schema_of([reader for reader in readers if reader.input == number]) for number in _inputs(readers)]
        state = _native.FlowState(
            [
                (schema, [number for reader in readers if reader.input == index for number in reader.numbers])
                for index, schema in enumerate(schemas)
            ],
            operator.arguments() if isinstance(operator, Aggregation) else None,
            operator.arguments() if isinstance(operator, Join) else None,
            self._said(),
            None if job._directory is None else os.fspath(job._directory),
            job._memory_bytes_max,
            time.monotonic(),
        )
        self._state = job._state = state
        self._has_operator = operator is not None
        results = state.schema()
        self._after = Pipeline(flow.after, schemas[0] if results is None else pa.schema(results))
        saved = state.take_saved()
        #: What tells its epochs from those of a state that was there before.
        self._identity = secrets.token_hex(8) if saved is None else saved[0]
        self._epoch: int = 0 if saved is None else saved[1]
        for reader in readers:
            reader.resume(None if saved is None else saved[2])
        #: What was saved last, and may not be out yet.
        self._kept = [] if saved is None else saved[3]
        producer = f"{job.name}/{self._identity}"
        client = readers[0].subscription._client
        self._sinks: dict[str, Sink] = {_RESULTS: sink_of(job._target, client, producer, self._after.schema)}
        if flow.late is not None:
            self._sinks[_LATE] = sink_of(flow.late, client, f"{producer}/late", None)
        self._outputs: list[tuple[str, pa.RecordBatch]] = []
        self._held = 0
        self._is_changed = False
        #: Whether what was saved last had results.
        self._has_kept = bool(self._kept)
        self._saved_at = time.monotonic()

    def all(self) -> None:
        """Everything, until the streams' end or a stop."""
        with contextlib.suppress(StoppedError):
            self._resume()
            self._reading = reading(self._readers, self._job._tick)
            try:
                self._read()
                self._reading.flush()
            finally:
                self._reading.close()
            if self._has_kept:
                # It is out: a function is not called with it again.
                self._state.save(self._identity, self._epoch, self._offsets(), [])

    def _read(self) -> None:
        left = len(self._readers)
        while not self._job._stopped.is_set():
            try:
                arrived = self._reading.next()
            except BowstringError:
                self._save(is_last=False)
                raise
            if arrived is None:
                self._save_if_due(is_idle=True)
                continue
            reader, delivered = arrived
            if delivered is not None:
                self._take(reader, delivered)
                self._save_if_due(is_idle=False)
                continue
            left -= 1
            if left == 0:
                self._save(is_last=True)
                if self._job._complete:
                    for sink in self._sinks.values():
                        sink.complete()
                return
            self._state.end(list(reader.numbers))
        self._save(is_last=False)

    def _resume(self) -> None:
        """Goes on from what was saved last, whose results may not be out yet."""
        if self._epoch == 0:
            return
        for reader in self._readers:
            reader.check_behind(self._job._directory)
        kept = [(name, batch) for name, batches in self._kept for batch in pa.RecordBatchReader.from_stream(batches)]
        self._deliver(kept, is_replay=True)
        for reader in self._readers:
            reader.ack()

    def _take(self, reader: Reader, delivered: Delivered) -> None:
        # What came before is only acked again.
        self._is_changed = True
        if not reader.take(delivered):
            return
        now, number = time.monotonic(), reader.number(delivered.partition)
        for batch in reader.before.run(delivered.batch):
            if self._has_operator:
                self._state.push(reader.input, number, batch, now, reader.fused)
            else:
                self._add(_RESULTS, self._after.run(batch))

    def _save_if_due(self, is_idle: bool) -> None:
        is_due = time.monotonic() - self._saved_at >= self._job._save_every
        is_full = self._held > self._job._memory_bytes_max or self._state.is_full
        if is_full or (is_due and (self._is_changed or is_idle)):
            self._save(is_last=False)

    def _save(self, is_last: bool) -> None:
        """State, offsets and results together; then results go out, then the batches are acked."""
        if self._has_operator:
            results = self._state.finish() if is_last else self._state.fire(time.monotonic())
            for batch in pa.RecordBatchReader.from_stream(results):
                self._add(_RESULTS, self._after.run(batch))
            if _LATE in self._sinks:
                self._add(_LATE, list(pa.RecordBatchReader.from_stream(self._state.take_late())))
            else:
                self._state.take_late()
        self._saved_at = time.monotonic()
        if not self._is_changed and not self._outputs:
            return
        outputs, self._outputs, self._held, self._is_changed = self._outputs, [], 0, False
        outputs = [(name, batch) for name in self._sinks for batch in _merged(name, outputs)]
        self._epoch += 1
        for name in {name for name, _ in outputs}:
            self._sinks[name].claim(self._epoch)
        self._state.save(self._identity, self._epoch, self._offsets(), outputs)
        self._has_kept = bool(outputs)
        self._deliver(outputs, is_replay=False)
        self._reading.ack()
        # One that takes longer than the time between two is not due again with the next batch.
        self._saved_at = time.monotonic()

    def _add(self, sink: str, batches: list[pa.RecordBatch]) -> None:
        for batch in batches:
            if batch.num_rows > 0:
                self._outputs.append((sink, batch))
                self._held += batch.get_total_buffer_size()

    def _deliver(self, outputs: list[tuple[str, pa.RecordBatch]], *, is_replay: bool) -> None:
        for name, sink in self._sinks.items():
            if own := [batch for output, batch in outputs if output == name]:
                sink.deliver(self._epoch, own, is_replay=is_replay, stopped=self._job._stopped)

    def _offsets(self) -> dict[int, int]:
        return {
            reader.number(partition): offset for reader in self._readers for partition, offset in reader.offsets.items()
        }

    def _said(self) -> str:
        """What its results depend on, as far as it can be said: functions are called by their names."""
        flow = self._job._flow
        sources = [
            f"stream {reader.subscription.stream} (id {reader.standing.stream_id}), subscription "
            f"{reader.subscription.name}, {[_stage(stage) for stage in reader.source.stages]}"
            for reader in self._readers
        ]
        after = [_stage(stage) for stage in flow.after]
        return f"{self._job.name} of {'; '.join(sources)}, then {flow.operator}, then {after}"


def _stage(stage: Any) -> Any:
    function = getattr(stage, "function", None)
    return repr(stage) if function is None else name_of(function)


def _merged(sink: str, outputs: Sequence[tuple[str, pa.RecordBatch]]) -> list[pa.RecordBatch]:
    """The batches of a sink as few larger ones."""
    own = [batch for name, batch in outputs if name == sink]
    if len(own) < 2:
        return own
    merged: list[pa.RecordBatch] = pa.Table.from_batches(own).combine_chunks().to_batches(max_chunksize=_ROWS_MAX)
    return merged


def _inputs(readers: Sequence[Reader]) -> range:
    return range(readers[-1].input + 1)


def _schema_of(readers: Sequence[Reader]) -> pa.Schema:
    """Of the rows of an input's sources: one for all of them."""
    first, *others = readers
    for other in others:
        if not other.schema.equals(first.schema):
            one, two = first.subscription, other.subscription
            reason = f"a union of rows of {_columns(first)} ({one.stream}), and of {_columns(other)} ({two.stream})"
            raise InvalidArgument(f"{reason}: map one of them to the other's columns", "invalid_argument", False)
    return first.schema


def _columns(reader: Reader) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in reader.schema)

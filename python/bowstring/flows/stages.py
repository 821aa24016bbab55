"""What is done with batches between windows: expressions and functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from bowstring import _native
from bowstring.appending import importable
from bowstring.errors import InvalidArgument


@dataclasses.dataclass(frozen=True)
class Rows:
    """Steps in SQL: "filter" with a condition, "select" with expressions."""

    steps: tuple[tuple[str, tuple[str, ...]], ...]


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of batches."""

    function: Callable[[pa.RecordBatch], Any]
    schema: pa.Schema | None


Stage = Rows | Function


class Pipeline:
    """Stages over batches of one schema. Raises `InvalidArgument` for an expression that cannot be."""

    def __init__(self, stages: Iterable[Stage], schema: pa.Schema) -> None:
        self._ready: list[_native.Rows | tuple[Function, pa.Schema]] = []
        for stage in stages:
            if isinstance(stage, Rows):
                rows = _native.Rows(schema, [(kind, list(texts)) for kind, texts in stage.steps])
                self._ready.append(rows)
                schema = pa.schema(rows.schema())
            else:
                schema = stage.schema if stage.schema is not None else _learned(stage, schema)
                self._ready.append((stage, schema))
        #: Of the results.
        self.schema = schema

    def last_rows(self) -> _native.Rows | None:
        """Takes out the last stage if it is in SQL, for who does it together with its own work."""
        last = self._ready[-1] if self._ready else None
        if not isinstance(last, _native.Rows):
            return None
        self._ready.pop()
        return last

    def run(self, batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        """What becomes of a batch."""
        batches = [batch]
        for stage in self._ready:
            if isinstance(stage, tuple):
                function, schema = stage[0].function, stage[1]
                batches = [as_schema(schema, result) for one in batches for result in batches_of(function(one))]
            else:
                batches = [result for one in batches for result in pa.RecordBatchReader.from_stream(stage.run(one))]
        return batches


def name_of(function: object) -> str:
    """What tells a function from another one in a later process."""
    return str(getattr(function, "__qualname__", type(function).__name__))


def batches_of(result: Any) -> Iterator[pa.RecordBatch]:
    """What a function returned, as record batches: None, one of several kinds, or several of them. Raises TypeError."""
    if result is None:
        return
    result = importable(result)
    if isinstance(result, pa.RecordBatch):
        yield result
    elif hasattr(result, "__arrow_c_stream__"):
        yield from pa.RecordBatchReader.from_stream(result)
    elif hasattr(result, "__arrow_c_array__"):
        yield pa.record_batch(result)
    elif isinstance(result, Mapping):
        yield pa.RecordBatch.from_pydict(dict(result))
    elif isinstance(result, Iterable) and not isinstance(result, (str, bytes)):
        for one in result:
            yield from batches_of(one)
    else:
        kind = type(result).__name__
        raise TypeError(f"a flow's function returned a {kind}; it returns a record batch, a table, a dict, or several")


def as_schema(schema: pa.Schema, batch: pa.RecordBatch) -> pa.RecordBatch:
    """What a function returned, as its schema says. Raises `InvalidArgument` if it is of others."""
    if batch.schema.equals(schema):
        return batch
    try:
        if sorted(batch.schema.names) != sorted(schema.names):
            raise pa.ArrowInvalid("it has other columns")
        columns = [batch.column(field.name).cast(field.type) for field in schema]
        return pa.RecordBatch.from_arrays(columns, schema=schema)
    except (pa.ArrowException, KeyError) as error:
        said, found = ([f"{field.name}: {field.type}" for field in one] for one in (schema, batch.schema))
        reason = f"a function returned columns {', '.join(found)}, where its schema has {', '.join(said)}: {error}"
        raise InvalidArgument(reason, "invalid_argument", False) from error


def _learned(stage: Function, schema: pa.Schema) -> pa.Schema:
    """What a function makes of no rows."""
    empty = pa.RecordBatch.from_pylist([], schema=schema)
    try:
        first = next(batches_of(stage.function(empty)), None)
    except Exception as error:
        raise _unknown(f"{type(error).__name__}: {error}") from error
    if first is None:
        raise _unknown("it gives nothing for no rows")
    return first.schema


def _unknown(why: str) -> InvalidArgument:
    reason = f"the schema of what a function returns is not known ({why}); give it as schema="
    return InvalidArgument(reason, "invalid_argument", False)

"""What a flow does with rows that come together: the steps that have a state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bowstring.flows.stages import as_schema, batches_of
from bowstring.flows.windows import Firings, Window

if TYPE_CHECKING:
    from bowstring import _native
    from bowstring.flows.building import Source

_Time = tuple[str, int, int | None]
_Pairwise = Callable[["_native.Batches", "_native.Batches"], object]
#: From two record batches, whose rows with the same number are of one key, to one that has a row for each pair.
ReduceFunction = Callable[[pa.RecordBatch, pa.RecordBatch], Any]


@dataclasses.dataclass(frozen=True)
class EventTime:
    """When rows are."""

    column: str
    lateness_micros: int
    idle_micros: int | None

    def arguments(self) -> _Time:
        """As the native module takes it."""
        return self.column, self.lateness_micros, self.idle_micros


@dataclasses.dataclass(frozen=True)
class Aggregation:
    """What is computed of rows that are together."""

    keys: tuple[str, ...]
    results: tuple[str, ...]
    window: Window
    firings: Firings
    time: EventTime | None
    #: What reduces the results, instead of aggregates.
    reduction: Reduction | None = None

    def arguments(
        self,
    ) -> tuple[list[str], list[str], _Pairwise | None, str, list[int], tuple[int | None, int], _Time | None]:
        """As the native module takes it."""
        return (
            list(self.keys),
            list(self.results),
            None if self.reduction is None else self.reduction.pairwise,
            self.window.kind,
            list(self.window.durations_micros),
            (self.firings.early_micros, self.firings.late_micros),
            None if self.time is None else self.time.arguments(),
        )


@dataclasses.dataclass(frozen=True)
class Reduction:
    """A function of two rows of a key."""

    function: ReduceFunction = dataclasses.field(repr=False)
    #: A state is of the function with this name.
    name: str

    def pairwise(self, left: _native.Batches, right: _native.Batches) -> pa.RecordBatch:
        """What becomes of pairs. Raises what the function raises; `InvalidArgument` if it gives other columns."""
        first, second = (pa.RecordBatchReader.from_stream(side).read_next_batch() for side in (left, right))
        reduced = [as_schema(first.schema, batch) for batch in batches_of(self.function(first, second))]
        if len(reduced) == 1:
            return reduced[0]
        return pa.Table.from_batches(reduced, schema=first.schema).combine_chunks().to_batches(None)[0]


@dataclasses.dataclass(frozen=True)
class Join:
    """Which rows of two inputs come together."""

    right: tuple[Source, ...] = dataclasses.field(repr=False)
    on: tuple[tuple[str, str], ...]
    times: tuple[EventTime, EventTime]
    from_micros: int
    to_micros: int

    def arguments(self) -> tuple[list[tuple[str, str]], list[_Time], int, int]:
        """As the native module takes it."""
        return list(self.on), [time.arguments() for time in self.times], self.from_micros, self.to_micros

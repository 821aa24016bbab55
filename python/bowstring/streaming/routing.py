"""Routing: which partition of the stream each row of a Spark task goes to. The native module does it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from bowstring import _native


@dataclass(frozen=True)
class Routing:
    """How rows find their partition.

    - ``spark``: Spark's partition id modulo the number of partitions. Whole tasks, nothing is split.
    - ``round_robin``: batches in turn.
    - ``hash(a, b)``: rows with the same key are always in the same partition, in this run and any other.
    - ``column:p``: column ``p`` holds the partition's number.
    """

    _routing: _native.Routing

    @classmethod
    def parse(cls, text: str) -> Routing:
        """Reads what a user wrote.

        Raises ValueError for anything else than the ways above.
        """
        return cls(_native.Routing(text))

    def check(self, names: Sequence[str]) -> None:
        """Raises ValueError if a column that the routing needs is not among the DataFrame's."""
        self._routing.check(list(names))

    def split(
        self, batch: pa.RecordBatch, partitions: int, task: int, index: int
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The batch's parts and where they go. `index` is the batch's number within its task.

        Raises ValueError for a column without keys, or one that names partitions which there are not.
        """
        whole = self._routing.whole(partitions, task, index)
        if whole is not None:
            yield whole, batch
            return
        targets, parts = self._routing.split(batch, partitions, task, index)
        if len(targets) == 1:
            yield targets[0], batch
            return
        for target, part in zip(targets, pa.RecordBatchReader.from_stream(parts), strict=True):
            # On their way there and back batches lose what their schema says beside its columns.
            yield target, part.replace_schema_metadata(batch.schema.metadata)

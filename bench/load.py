"""What the relays carry: batches of eight int64 columns, as in ../docs/benchmarks.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

COLUMNS = 8


@dataclass(frozen=True)
class Load:
    """One kind of batch and how many of them a run carries."""

    name: str
    rows: int
    batches: int

    @property
    def bytes(self) -> int:
        """Bytes of values in a run."""
        return self.batches * self.batch_bytes

    @property
    def batch_bytes(self) -> int:
        """Bytes of values in a batch."""
        return self.rows * COLUMNS * 8


def make_batch(rows: int) -> pa.RecordBatch:
    """A batch of the load's shape."""
    return pa.record_batch({f"c{column}": np.arange(rows, dtype=np.int64) for column in range(COLUMNS)})

"""One thing to measure, as every contestant gets it, and the batches that it carries."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import numpy as np
import pyarrow as pa

COLUMNS = 8
#: What is there to be read when reading alone is measured, as in `bowstring bench`.
GET_BYTES_MAX = 512 << 20
GET_BATCHES_MAX = 65_536
#: What is stored before the clock starts when appending alone is measured: what a stream holds by default.
FILL_BATCHES = 64


@dataclass(frozen=True)
class Case:
    """What a contestant does in one round."""

    name: str
    #: put, get, relay, fan-out or latency, as `bowstring bench` names them.
    work: str
    batch_bytes: int
    #: Of all streams together.
    batches: int
    columns: str = "fixed"
    partitions: int = 1
    streams: int = 1
    consumers: int = 1
    #: Batches per second; with 0 half of what the contestant's relay reaches in the same round.
    rate: float | None = None

    @property
    def rows(self) -> int:
        """Rows of a batch of fixed-width columns."""
        return max(1, self.batch_bytes // (COLUMNS * 8))

    @property
    def prepared(self) -> int:
        """Batches that are there before reading alone begins."""
        return max(1, min(self.batches, GET_BYTES_MAX // self.batch_bytes, GET_BATCHES_MAX))

    @property
    def filled(self) -> int:
        """Batches that are there before appending alone begins."""
        return max(1, min(FILL_BATCHES, GET_BYTES_MAX // self.batch_bytes)) if self.work == "put" else 0

    def at_full_speed(self) -> Case:
        """The same as a relay, which says what the most is."""
        return replace(self, work="relay", rate=None)

    def at_rate(self, rate: float, seconds: float) -> Case:
        """The same at a rate."""
        return replace(self, rate=rate, batches=max(10, round(rate * seconds)))

    def json(self) -> str:
        """For an end's command line."""
        return json.dumps(asdict(self))

    @staticmethod
    def of(text: str) -> Case:
        """What `json` said."""
        return Case(**json.loads(text))


def make_batch(case: Case) -> pa.RecordBatch:
    """A batch of the case's size and columns, like `bowstring bench`'s."""
    if case.columns == "fixed":
        return pa.record_batch({f"c{column}": np.arange(case.rows, dtype=np.int64) for column in range(COLUMNS)})
    letters = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"
    if case.columns == "string":
        rows = max(1, case.batch_bytes // 68)
        texts = pa.array([letters[: 4 + row * 7 % 25] for row in range(rows)])
        ids = np.arange(rows, dtype=np.int64)
        return pa.record_batch({"id": ids} | {f"s{column}": pa.concat_arrays([texts]) for column in range(3)})
    rows = max(1, case.batch_bytes // 64)
    items = pa.array([None if row % 16 == 15 else [row] * (1 + row % 7) for row in range(rows)], pa.list_(pa.int64()))
    tags = pa.array([letters[: 4 + row * 7 % 9] for row in range(rows)])
    points = pa.StructArray.from_arrays([np.arange(rows, dtype=np.float64), tags], ["x", "tag"])
    return pa.record_batch({"id": np.arange(rows, dtype=np.int64), "items": items, "point": points})


def stamped(batch: pa.RecordBatch, stamp_ns: int) -> pa.RecordBatch:
    """The same with a stamp as its first value; only for fixed-width columns."""
    first = np.full(batch.num_rows, stamp_ns, dtype=np.int64)
    return pa.record_batch([pa.array(first), *batch.columns[1:]], schema=batch.schema)

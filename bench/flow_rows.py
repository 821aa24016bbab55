"""The rows that flows are measured with, and what has to come out: the same for every contestant."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import duckdb
import numpy as np
import pyarrow as pa

BATCH_ROWS = 65_536
WINDOW_SECONDS = 10
WINDOW_MICROS = WINDOW_SECONDS * 1_000_000
#: So many windows, however many rows.
WINDOWS = 6
#: Rows are behind each other by less than a second, so with this none is late, and nobody has to look.
LATENESS_SECONDS = 2
BEGIN_MICROS = 1_767_225_600_000_000
#: A tenth of the rows: values go to 1000.
CONDITION = "value < 100"

SCHEMA = pa.schema([("key", pa.int64()), ("made_at", pa.timestamp("us", "UTC")), ("value", pa.int64())])
#: What a count gives: the window's number since 1970, the key, how many.
COUNTS = pa.schema([("w", pa.int64()), ("key", pa.int64()), ("n", pa.int64())])

#: Of results, in SQL that DuckDB and Spark both read. Equal for equal results; for others it would be a chance.
FILTER_DIGEST = ("count(*)", "sum(key)", "sum(value)", "sum(key % 997 * value)")
COUNT_DIGEST = ("count(*)", "sum(n)", "sum(n * n)", "sum((key * 7919 + w * 104729) % 1000003 * n)")


@dataclass(frozen=True)
class Work:
    """One job on so many rows: a filter, or a count by window and key."""

    kind: str
    rows: int
    keys: int

    @property
    def name(self) -> str:
        """For people."""
        return "filter" if self.kind == "filter" else f"tumbling count, {self.keys:,} keys"

    @property
    def digest(self) -> Sequence[str]:
        """What is asked of its results."""
        return FILTER_DIGEST if self.kind == "filter" else COUNT_DIGEST

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, the same each time, in the order of their times but for less than a second."""
        random = np.random.default_rng(7)
        for begin in range(0, self.rows, BATCH_ROWS):
            count = min(BATCH_ROWS, self.rows - begin)
            micros = np.arange(begin, begin + count) * (WINDOWS * WINDOW_MICROS) // self.rows
            micros += BEGIN_MICROS + random.integers(0, 1_000_000, count)
            columns = [random.integers(0, self.keys, count), micros, random.integers(0, 1000, count)]
            yield pa.record_batch(
                [pa.array(column).cast(field.type) for column, field in zip(columns, SCHEMA, strict=True)],
                schema=SCHEMA,
            )

    def expected(self) -> list[int]:
        """The digest of what DuckDB makes of all rows at once."""
        rows = pa.Table.from_batches(self.batches())
        if self.kind == "filter":
            return digest(self, rows, f"SELECT * FROM results WHERE {CONDITION}")
        counted = f"SELECT epoch_us(made_at) // {WINDOW_MICROS} AS w, key, count(*) AS n FROM results GROUP BY ALL"
        return digest(self, rows, counted)

    def json(self) -> str:
        """For an end's command line."""
        return json.dumps(asdict(self))

    @staticmethod
    def of(text: str) -> Work:
        """What `json` said."""
        return Work(**json.loads(text))


def digest(work: Work, results: pa.Table, query: str = "FROM results") -> list[int]:
    """Of results, or of a query of them."""
    asked = ", ".join(f"({one})::BIGINT" for one in work.digest)
    with duckdb.connect() as connection:
        connection.register("results", results)
        row = connection.execute(f"SELECT {asked} FROM ({query})").fetchone()
    assert row is not None
    return list(row)


def after_the_end() -> pa.RecordBatch:
    """A row of so much later that all windows before are over: for who has no other end."""
    made_at = datetime.datetime.fromtimestamp(BEGIN_MICROS / 1e6 + 3600, datetime.timezone.utc)
    return pa.RecordBatch.from_pylist([{"key": 0, "made_at": made_at, "value": 999}], schema=SCHEMA)

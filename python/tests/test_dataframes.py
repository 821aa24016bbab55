"""Bounded reads by other libraries look at the memory that the batches came in."""

from __future__ import annotations

import datafusion
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import bowstring

ROWS = 10_000


@pytest.fixture
def received(client: bowstring.Client) -> list[pa.RecordBatch]:
    """Offsets 2, 3 and 4 of a stream, read by range."""
    client.create_stream("numbers")
    with client.producer("numbers") as producer:
        for first in range(0, 7 * ROWS, ROWS):
            producer.append(pa.record_batch({"number": np.arange(first, first + ROWS)}))
        producer.complete()
    return list(client.read("numbers", 0, 2, 5))


def reader(batches: list[pa.RecordBatch]) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(batches[0].schema, iter(batches))


def addresses(batches: list[pa.RecordBatch]) -> list[int]:
    return [batch["number"].buffers()[1].address + 8 * batch["number"].offset for batch in batches]


EXPECTED = list(range(2 * ROWS, 5 * ROWS))


def test_polars_looks_at_the_received_memory(received: list[pa.RecordBatch]) -> None:
    column = pl.DataFrame(reader(received))["number"]
    assert column.to_list() == EXPECTED
    chunks = [chunk.to_numpy(allow_copy=False).__array_interface__["data"][0] for chunk in column.get_chunks()]
    assert chunks == addresses(received)


def test_pandas_looks_at_the_received_memory(received: list[pa.RecordBatch]) -> None:
    frame = pa.table(reader(received[:1])).to_pandas(zero_copy_only=True, split_blocks=True)
    assert frame["number"].tolist() == EXPECTED[:ROWS]
    assert frame["number"].to_numpy().__array_interface__["data"][0] == addresses(received)[0]
    whole = pa.table(reader(received)).to_pandas(types_mapper=pd.ArrowDtype)["number"]
    assert whole.tolist() == EXPECTED
    chunks = whole.array.__arrow_array__().chunks
    assert [chunk.buffers()[1].address for chunk in chunks] == addresses(received)


def test_datafusion_passes_on_the_received_memory(received: list[pa.RecordBatch]) -> None:
    frame = datafusion.SessionContext().from_arrow(reader(received))
    found = [batch for batch in frame.collect() if batch.num_rows]
    assert sorted(one for batch in found for one in batch["number"].to_pylist()) == EXPECTED
    ranges = [(start, start + 8 * ROWS) for start in addresses(received)]
    assert all(any(start <= one < end for start, end in ranges) for one in addresses(found))


def test_duckdb_reads_the_range_as_it_comes(received: list[pa.RecordBatch]) -> None:
    source = reader(received)
    found = duckdb.from_arrow(source).aggregate("count(*), min(number), max(number)").fetchall()
    assert found == [(3 * ROWS, 2 * ROWS, 5 * ROWS - 1)]


def test_an_epoch_is_a_bounded_stream_for_each_of_them(client: bowstring.Client) -> None:
    client.create_stream("epochs")
    for name in ("polars", "duckdb", "pandas", "datafusion"):
        client.subscribe("epochs", name)
    for number in range(2):
        assert client.open_epoch("epochs", "p", "r", number) == "open"
        writer = client.writer("epochs", producer="p", run="r", epoch=number, task=0, attempt=0)
        writer.append(pa.record_batch({"number": [10 * number, 10 * number + 1]}))
        receipt = writer.finish()
        assert receipt is not None
        client.commit_epoch("epochs", "p", "r", number, [receipt])
    for name, read in {
        "polars": lambda epoch: pl.DataFrame(epoch)["number"].to_list(),
        "duckdb": lambda epoch: [
            row[0] for row in duckdb.from_arrow(pa.RecordBatchReader.from_stream(epoch)).fetchall()
        ],
        "pandas": lambda epoch: pa.table(epoch).to_pandas()["number"].tolist(),
        "datafusion": lambda epoch: datafusion.SessionContext().from_arrow(epoch).to_pydict()["number"],
    }.items():
        epochs = client.subscription("epochs", name).epochs()
        assert [read(next(epochs)) for _ in range(2)] == [[0, 1], [10, 11]], name
        epochs.close()

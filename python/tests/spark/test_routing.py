"""Where keys go, and that nothing changes it: streams are full of rows that went by it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from bowstring.streaming.routing import Routing

#: Keys of every type, and in the columns that are named by a routing what they hash to. Made by the sink that wrote the
#: first streams, before Rust did it; src/spark/hash.rs holds itself to the same file.
KEYS = pa.ipc.open_stream(Path(__file__).parents[3] / "tests/golden/routing.arrow").read_all().to_batches()[0]
ROUTINGS = [name for name in KEYS.schema.names if name.startswith("hash(")]


@pytest.mark.parametrize("text", ROUTINGS)
def test_a_key_goes_where_it_has_always_gone(text: str) -> None:
    hashes = KEYS[text].to_pylist()
    keys = KEYS.append_column("row", pa.array(range(KEYS.num_rows)))
    for partitions in (2, 7, 4096):
        rows = {}
        for partition, part in Routing.parse(text).split(keys, partitions, 0, 0):
            rows |= dict.fromkeys(part["row"].to_pylist(), partition)
        assert [rows[row] for row in range(KEYS.num_rows)] == [value % partitions for value in hashes]


def test_every_type_is_among_them() -> None:
    assert len(ROUTINGS) == 54


def test_parts_are_like_the_batch_in_all_but_rows() -> None:
    fields = [pa.field("k", pa.int64(), nullable=False, metadata={"a": "1"}), pa.field("l", pa.list_(pa.string()))]
    rows = {"k": range(50), "l": [[str(n), None] if n % 3 else None for n in range(50)]}
    batch = pa.record_batch(rows, schema=pa.schema(fields, metadata={"b": "2"}))
    parts = [part for _, part in Routing.parse("hash(k)").split(batch, 3, 0, 0)]
    assert len(parts) == 3
    assert all(part.schema.equals(batch.schema, check_metadata=True) for part in parts)
    found = sorted((row for part in parts for row in part.to_pylist()), key=lambda row: row["k"])
    assert found == batch.to_pylist()


@pytest.mark.parametrize("text", ["spark", "round_robin", "hash(a, b)", "column:p"])
def test_a_routing_travels_to_the_executors(text: str) -> None:
    routing = Routing.parse(text)
    travelled = pickle.loads(pickle.dumps(routing))
    assert travelled == routing
    assert hash(travelled) == hash(routing)
    assert travelled != Routing.parse("hash(b)")

"""What columns become, and what of it is no copy."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import bowstring
from bowstring.torch import Batch, StreamDataset
from bowstring.torch.tensors import tensors_of

from ..support import Served


def one(column: pa.Array, writable: bool = False) -> Any:
    return tensors_of(pa.record_batch({"c": column}), writable)["c"]


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_integers_are_tensors_that_look_at_arrows_memory(kind: str) -> None:
    column = pa.array([1, 2, 3, 100], kind).slice(1)
    tensor = one(column)
    assert tensor.dtype == getattr(torch, kind)
    assert tensor.tolist() == [2, 3, 100]
    assert tensor.data_ptr() == column.buffers()[1].address + tensor.element_size()
    copied = one(column, writable=True)
    assert copied.tolist() == [2, 3, 100]
    assert copied.data_ptr() != tensor.data_ptr()


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_floats_too(kind: pa.DataType) -> None:
    column = pa.array(np.array([1.5, float("inf")], kind.to_pandas_dtype()))
    assert one(column).tolist() == [1.5, float("inf")]
    assert one(column).data_ptr() == column.buffers()[1].address


def test_booleans_dates_and_times_are_tensors() -> None:
    assert one(pa.array([True, False, True]).slice(1)).tolist() == [False, True]
    assert one(pa.array([True])).dtype == torch.bool
    day = datetime.date(1970, 1, 3)
    assert one(pa.array([day])).tolist() == [2]
    assert (
        one(pa.array([datetime.datetime(1970, 1, 1, 0, 0, 1)], pa.timestamp("ms", "Europe/Berlin"))).dtype
        == torch.int64
    )
    assert one(pa.array([5], pa.duration("us"))).tolist() == [5]
    assert one(pa.array([5], pa.time32("s"))).dtype == torch.int32


def test_lists_of_a_fixed_size_are_dimensions() -> None:
    column = pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32(), 2))
    tensor = one(column.slice(1))
    assert tensor.tolist() == [[3.0, 4.0], [5.0, 6.0]]
    assert tensor.data_ptr() == column.values.buffers()[1].address + 8
    nested = pa.array([[[1, 2], [3, 4]]], pa.list_(pa.list_(pa.int8(), 2), 2))
    assert one(nested).tolist() == [[[1, 2], [3, 4]]]
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    shaped = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
    assert one(shaped).tolist() == images.tolist()
    turned = images.transpose(0, 2, 1)
    assert one(pa.FixedShapeTensorArray.from_numpy_ndarray(turned)).tolist() == turned.tolist()


def test_what_is_no_number_is_a_list() -> None:
    assert one(pa.array(["a", None])) == ["a", None]
    assert one(pa.array([Decimal("1.5")])) == [Decimal("1.5")]
    assert one(pa.array([[1], [2, 3]])) == [[1], [2, 3]]
    assert one(pa.array(["x", "y", "x"]).dictionary_encode()) == ["x", "y", "x"]
    assert one(pa.array([1, 2, 1]).dictionary_encode()).tolist() == [1, 2, 1]
    assert one(pa.array([], pa.int32())).shape == (0,)


@pytest.mark.parametrize(
    "column", [pa.array([1, None]), pa.array([True, None]), pa.array([[1], None], pa.list_(pa.int8(), 1))]
)
def test_nulls_are_refused_with_the_column_and_how_many(column: pa.Array) -> None:
    with pytest.raises(bowstring.InvalidArgument, match="column c has 1 nulls among 2 rows"):
        one(column)


WRITING = """
import sys
from bowstring.torch import StreamDataset

def in_place(values):
    return {"x": values["x"].add_(1)} if transforms else values

url, transforms = sys.argv[1], sys.argv[2] == "transform"
one = StreamDataset(url, "rows", batch_rows=50_000, round_rows=100_000, transform=in_place)
for batch in one:
    if not transforms:
        batch["x"] += 1
    print(batch["x"][0].item())
"""


@pytest.mark.parametrize("where", ["batch", "transform"])
def test_tensors_can_be_written_to(serve: Callable[..., Served], where: str) -> None:
    client = bowstring.connect(serve().url)
    with client.producer("rows") as producer:
        for first in (0, 50_000):
            producer.append(pa.record_batch({"x": np.arange(first, first + 50_000)}))
        producer.complete()
    # In a process of its own: where tensors look at memory that was mapped to read, it dies.
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", WRITING, client.url, where], capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, done.stdout) == (0, "1\n50001\n"), done.stderr


def test_columns_schema_and_transform_say_what_a_batch_has(client: bowstring.Client) -> None:
    with client.producer("rows") as producer:
        producer.append(pa.record_batch({"a": [1, 2], "b": ["x", "y"], "c": [None, 1.0]}))
        producer.complete()

    def read(**options: Any) -> Batch:
        return next(iter(StreamDataset(client.url, "rows", batch_rows=2, round_rows=2, **options)))

    assert read(columns=["b"]) == {"b": ["x", "y"]}
    assert read(columns=["a"], schema=pa.schema({"a": pa.int8()}))["a"].dtype == torch.int8
    doubled = read(columns=["a"], transform=lambda values: {"twice": values["a"] * 2})
    assert doubled["twice"].tolist() == [2, 4]
    assert doubled.is_last
    with pytest.raises(bowstring.InvalidArgument, match="column c has 1 nulls"):
        read()
    with pytest.raises(bowstring.InvalidArgument, match="transform returned Tensor"):
        read(columns=["a"], transform=lambda values: values["a"])

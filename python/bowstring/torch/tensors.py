"""Tensors of Arrow's columns, without a copy where the type allows it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import torch

from bowstring.errors import InvalidArgument


def tensors_of(batch: pa.RecordBatch, writable: bool) -> dict[str, Any]:
    """Each column by its name: numbers as tensors, everything else as a list of Python's values.

    Raises `InvalidArgument` for a column of numbers with nulls.
    """
    return {name: _column(name, batch.column(at), writable) for at, name in enumerate(batch.schema.names)}


def _column(name: str, column: Any, writable: bool) -> Any:
    if isinstance(column, pa.ExtensionArray):
        if isinstance(column.type, pa.FixedShapeTensorType):
            return _shaped(name, column, writable)
        column = column.storage
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_fixed_size_list(kind) and _is_number(_innermost(kind)):
        _refuse_nulls(name, column)
        values = _column(name, column.flatten(), writable)
        return values.reshape(len(column), kind.list_size, *values.shape[1:])
    if not _is_number(kind):
        return column.to_pylist()
    _refuse_nulls(name, column)
    if pa.types.is_boolean(kind):
        # Arrow has bits: these are bytes of their own.
        return torch.from_numpy(column.to_numpy(zero_copy_only=False).copy())
    if pa.types.is_temporal(kind):
        column = column.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    if len(column) == 0:
        return torch.from_numpy(column.to_numpy(zero_copy_only=False).copy())
    tensor = torch.from_dlpack(column)
    return tensor.clone() if writable else tensor


def _shaped(name: str, column: Any, writable: bool) -> Any:
    """A tensor of its type's shape, and that in the order that its type says."""
    values = _column(name, column.storage, writable)
    kind = column.type
    if not isinstance(values, torch.Tensor):
        return values
    shaped = values.reshape(len(column), *kind.shape)
    order = kind.permutation
    return shaped if order is None else shaped.permute(0, *(one + 1 for one in order))


def _innermost(kind: Any) -> Any:
    while pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return kind


def _is_number(kind: Any) -> bool:
    if pa.types.is_interval(kind):
        return False
    return any(test(kind) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)) or (
        pa.types.is_temporal(kind)
    )


def _refuse_nulls(name: str, column: Any) -> None:
    if column.null_count:
        text = f"column {name} has {column.null_count} nulls among {len(column)} rows, and tensors have none"
        raise InvalidArgument(f"{text}; fill them before, or leave it out (columns)", "invalid_argument", False)

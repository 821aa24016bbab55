"""Routing: which partition of the stream each row of a Spark task goes to."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

#: The ways of routing, for errors and docs.
WAYS = ("spark", "round_robin", "hash(column, ...)", "column:<name>")

_U64 = (1 << 64) - 1
#: What a null key counts as: any fixed number will do, so that all nulls meet in one partition.
_NULL_KEY = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Routing:
    """How rows find their partition.

    - ``spark``: Spark's partition id modulo the number of partitions. Whole tasks, nothing is split.
    - ``round_robin``: batches in turn.
    - ``hash(a, b)``: rows with the same key are always in the same partition, in this run and any other.
    - ``column:p``: column ``p`` holds the partition's number.
    """

    way: str
    columns: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Routing:
        """Reads what a user wrote.

        Raises ValueError for anything else than the ways above.
        """
        text = text.strip()
        if text in ("spark", "round_robin"):
            return cls(text)
        if match := re.fullmatch(r"hash\((.+)\)", text):
            columns = tuple(column.strip() for column in match[1].split(","))
            if all(columns):
                return cls("hash", columns)
        if match := re.fullmatch(r"column:(.+)", text):
            return cls("column", (match[1].strip(),))
        raise ValueError(f"routing {text!r} is not known; use one of: {', '.join(WAYS)}")

    def check(self, names: list[str]) -> None:
        """Raises ValueError if a column that the routing needs is not among the DataFrame's."""
        missing = [column for column in self.columns if column not in names]
        if missing:
            raise ValueError(f"routing needs the columns {missing}, but the DataFrame has {names}")

    def split(
        self, batch: pa.RecordBatch, partitions: int, task: int, index: int
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The batch's parts and where they go. `index` is the batch's number within its task."""
        if self.way == "spark" or partitions == 1:
            yield task % partitions, batch
        elif self.way == "round_robin":
            yield (task + index) % partitions, batch
        elif self.way == "hash":
            yield from split_by(batch, _modulo(hash_rows(batch, self.columns), partitions))
        else:
            yield from split_by(batch, self._named(batch, partitions))

    def _named(self, batch: pa.RecordBatch, partitions: int) -> pa.Array:
        (name,) = self.columns
        column = batch.column(name)
        if not pt.is_integer(column.type):
            raise ValueError(
                f"routing column {name!r} is {column.type}; it has to hold the partition's number, an integer"
            )
        low, high = pc.min_max(column).as_py().values()
        if column.null_count or (batch.num_rows and not 0 <= low <= high < partitions):
            found = "nulls" if column.null_count else f"{low} to {high}"
            raise ValueError(
                f"routing column {name!r} holds {found}, but the stream's partitions are 0 to {partitions - 1}"
            )
        return column.cast(pa.uint64())


def split_by(batch: pa.RecordBatch, targets: pa.Array) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The batch's rows by target, in their order: one part per target that occurs."""
    if batch.num_rows == 0:
        return
    order = pc.sort_indices(targets)
    counts = pc.value_counts(targets.take(order)).to_pylist()
    if len(counts) == 1:
        yield counts[0]["values"], batch
        return
    ordered, start = batch.take(order), 0
    for entry in counts:
        yield entry["values"], ordered.slice(start, entry["counts"])
        start += entry["counts"]


def hash_rows(batch: pa.RecordBatch, columns: tuple[str, ...]) -> pa.Array:
    """A 64-bit hash of each row's key, the same in every process and run.

    Numbers, dates and times hash by value, whatever their width; text and bytes by their bytes, once per
    distinct value of a batch.
    """
    result: pa.Array | None = None
    for name in columns:
        one = _mix(_as_u64(batch.column(name), name))
        result = one if result is None else _mix(pc.add(pc.multiply(result, _u64(31)), one))
    assert result is not None, "parse refuses a hash without columns"
    return result


def _as_u64(column: pa.Array, name: str) -> pa.Array:
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    of = column.type
    if pt.is_boolean(of) or pt.is_integer(of):
        values = column.cast(pa.uint64(), safe=False)
    elif pt.is_temporal(of):
        values = column.cast(pa.int32() if of.bit_width == 32 else pa.int64()).cast(pa.uint64(), safe=False)
    elif pt.is_floating(of):
        # + 0.0 makes -0.0 and 0.0 one key.
        values = pc.add(column.cast(pa.float64()), 0.0).view(pa.uint64())
    elif pt.is_decimal(of) or _is_bytes(of):
        values = _distinct(column)
    else:
        raise ValueError(f"routing cannot hash column {name!r} of type {of}; use numbers, dates, times, text or bytes")
    return values.fill_null(_NULL_KEY)


def _is_bytes(of: pa.DataType) -> bool:
    tests = (
        pt.is_string,
        pt.is_large_string,
        pt.is_string_view,
        pt.is_binary,
        pt.is_large_binary,
        pt.is_fixed_size_binary,
    )
    return any(test(of) for test in tests)


def _distinct(column: pa.Array) -> pa.Array:
    """Hashes by bytes: each distinct value once, in Python."""
    if pt.is_decimal(column.type):
        column = column.cast(pa.string())
    encoded = column.cast(pa.large_binary()).dictionary_encode()
    hashes = [zlib.crc32(value) | zlib.adler32(value) << 32 for value in encoded.dictionary.to_pylist()]
    return pa.array(hashes, pa.uint64()).take(encoded.indices)


def _mix(values: pa.Array) -> pa.Array:
    """The finalizer of splitmix64: every input bit changes every output bit."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = pc.multiply(pc.bit_wise_xor(values, pc.shift_right(values, _u64(shift))), _u64(factor))
    return pc.bit_wise_xor(values, pc.shift_right(values, _u64(31)))


def _modulo(values: pa.Array, divisor: int) -> pa.Array:
    return pc.subtract(values, pc.multiply(pc.divide(values, _u64(divisor)), _u64(divisor)))


def _u64(value: int) -> pa.Scalar:
    return pa.scalar(value & _U64, pa.uint64())

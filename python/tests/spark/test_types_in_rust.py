"""Rust's types, which the JVM connector goes by, are those of Python and of Spark itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyspark.sql import types as spark_types
from pyspark.sql.types import ArrayType, DataType, MapType, StringType, StructField, StructType

import bowstring
from bowstring import _native
from bowstring.streaming.types import Conformer, check_writable, to_arrow_schema, to_spark_schema

from .test_types import ARROW_TYPES, SPARK_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class PointType(spark_types.UserDefinedType):
    @classmethod
    def sqlType(cls) -> DataType:  # noqa: N802 - Spark's name
        return StructType([StructField("xy", ArrayType(spark_types.DoubleType(), False), False)])

    @classmethod
    def module(cls) -> str:
        return __name__


#: What no table of docs/types.md has, since it cannot be written down in SQL or needs a word more.
MORE_TYPES: dict[str, DataType] = {
    "variant": spark_types.VariantType(),
    "collated": StringType("UNICODE_CI"),
    "decimal": spark_types.DecimalType(),
    "time": spark_types.TimeType(0),
    "minutes": spark_types.DayTimeIntervalType(2, 2),
    "geometry": spark_types.GeometryType(3857),
    "geography": spark_types.GeographyType("ANY"),
    "point": PointType(),
}


def rust_arrow(schema: StructType, *, year_month: bool = False) -> pa.Schema:
    return pa.schema(_native.arrow_schema(schema.json(), year_month))


def rust_spark(schema: pa.Schema, *, year_month: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_native.spark_schema(schema, year_month))
    return found


def nested(of: DataType) -> list[DataType]:
    """The type itself, and within all that there is to be within; nulls alone may always be null."""
    is_void = isinstance(of, spark_types.NullType)
    struct = StructType([StructField("x", of, is_void), StructField("y", of)])
    key = StringType() if is_void else of
    maps = [MapType(StringType(), of), MapType(key, struct, False), MapType(key, ArrayType(of))]
    arrays = [ArrayType(of), ArrayType(of, is_void), ArrayType(ArrayType(of, is_void)), ArrayType(struct)]
    return [of, *arrays, *maps, struct]


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("name", [*SPARK_TYPES, *MORE_TYPES])
def test_a_spark_schema_is_written_as_spark_writes_it(name: str) -> None:
    written = f"c {SPARK_TYPES[name][0]}" if name in SPARK_TYPES else ""
    of = StructType.fromDDL(written)["c"].dataType if written else MORE_TYPES[name]
    if name == "varchar":
        # Spark never has one in a DataFrame; what it has for a column of a table is text with a length in its metadata.
        assert rust_arrow(StructType([StructField("c", of)])) == pa.schema([("c", pa.string())])
        return
    is_nullable = [name == "void" or n % 2 == 0 for n in range(9)]
    schema = StructType([StructField(f"c{n}", one, is_nullable[n]) for n, one in enumerate(nested(of))])
    found = rust_arrow(schema)
    assert found.equals(to_arrow_schema(schema), check_metadata=True)
    assert rust_spark(found) == to_spark_schema(found).jsonValue()


def test_what_spark_says_of_a_column_stays() -> None:
    said = {"z": [1, 2.5, None], "a": {"ü": True}}
    schema = StructType([StructField("s", StructType([StructField("x", StringType(), True, said)]), True, said)])
    key = b"SPARK::metadata::json"
    found, expected = rust_arrow(schema), to_arrow_schema(schema)
    for of in (found, expected):
        assert json.loads(of.field("s").metadata[key]) == said
        assert json.loads(of.field("s").type.field("x").metadata[key]) == said


def not_null(name: str, of: pa.DataType) -> pa.Field:
    """A column of nulls alone may always be null."""
    return pa.field(name, of, nullable=pa.types.is_null(of))


WRAPPED: dict[str, Callable[[pa.DataType], pa.DataType]] = {
    "itself": lambda of: of,
    "list": pa.list_,
    "large_list": pa.large_list,
    "fixed_list": lambda of: pa.list_(not_null("i", of), 2),
    "list_view": pa.list_view,
    "map": lambda of: pa.map_(pa.int8() if pa.types.is_null(of) else of, not_null("v", of)),
    "struct": lambda of: pa.struct([not_null("x", of), ("y", pa.list_(of))]),
    "dictionary": lambda of: pa.dictionary(pa.int8(), of),
    "run_end": lambda of: pa.run_end_encoded(pa.int32(), of),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("name", ARROW_TYPES)
def test_an_arrow_schema_is_read_as_python_reads_it(name: str, wrapped: str) -> None:
    of = WRAPPED[wrapped](ARROW_TYPES[name][0].type)
    schema = pa.schema([pa.field("a", of), not_null("b", of).with_metadata({"x": "y"})])
    assert rust_spark(schema) == to_spark_schema(schema).jsonValue()


@pytest.mark.parametrize("of", [pa.decimal128(2, -3), pa.decimal64(3, 5), pa.uuid(), pa.json_(), pa.bool8()])
def test_so_are_scales_that_spark_has_not_and_extension_types(of: pa.DataType) -> None:
    schema = pa.schema([("c", of)])
    assert rust_spark(schema) == to_spark_schema(schema).jsonValue()


@pytest.mark.parametrize(
    "schema",
    [
        pa.schema([("c", pa.month_day_nano_interval())]),
        pa.schema([("it's", pa.struct([("m", pa.map_(pa.string(), pa.list_(pa.month_day_nano_interval())))]))]),
        pa.schema([("c", pa.map_(pa.decimal256(50, 2), pa.int8()))]),
        pa.schema([("c", pa.decimal128(38, -1))]),
        pa.schema([("b", pa.int8()), ("a", pa.int8()), ("b", pa.int8()), ("a", pa.int8())]),
    ],
)
def test_what_spark_cannot_read_is_refused_in_the_same_words(schema: pa.Schema) -> None:
    with pytest.raises(TypeError) as in_python:
        to_spark_schema(schema)
    with pytest.raises(bowstring.BowstringError) as in_rust:
        rust_spark(schema)
    assert str(in_rust.value) == str(in_python.value)
    assert in_rust.value.code == "invalid_argument"


MONTHS = spark_types.YearMonthIntervalType()


@pytest.mark.parametrize(
    "schema",
    [
        *(StructType([StructField("i", of)]) for of in nested(MONTHS)),
        StructType([StructField("i", spark_types.CalendarIntervalType())]),
        StructType([StructField("a", StringType()), StructField("a", StringType())]),
    ],
)
def test_what_spark_cannot_write_is_refused_in_the_same_words(schema: StructType) -> None:
    with pytest.raises(TypeError) as in_python:
        check_writable(schema)
    with pytest.raises(bowstring.BowstringError) as in_rust:
        rust_arrow(schema)
    assert str(in_rust.value) == str(in_python.value)


def test_the_jvm_takes_intervals_of_months() -> None:
    schema = StructType([StructField("i", of) for of in nested(MONTHS)[:1]] + [StructField("l", ArrayType(MONTHS))])
    found = rust_arrow(schema, year_month=True)
    assert [str(field.type) for field in found] == ["month_interval", "list<element: month_interval>"]
    assert rust_spark(found, year_month=True) == schema.jsonValue()
    with pytest.raises(bowstring.InvalidArgument, match="column 'i' is month_interval, which Spark cannot read"):
        rust_spark(found)


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_a_consumer_is_given_what_spark_is_given(wrapped: str) -> None:
    # Not all wraps take all types: nulls have no list of theirs here, and a message has no dictionary of dictionaries.
    arrays = {name: array for name, (array, _, _) in ARROW_TYPES.items() if wrapped == "itself" or name != "null"}
    arrays = {name: array for name, array in arrays.items() if (wrapped, name) != ("dictionary", "dictionary")}
    table = pa.table({name: of_all(wrapped, array) for name, array in arrays.items()})
    # Python decodes no views, neither from runs nor from dictionaries.
    rows = {"run_end": [0, 1, 2, 2, 2], "dictionary": [2, 0, None]}.get(wrapped)
    known = pa.table({name: picked(array, rows) for name, array in arrays.items()}) if rows else table
    target = to_arrow_schema(to_spark_schema(table.schema))
    conform = Conformer(target)
    with bowstring.StreamCoordinator(http=None) as coordinator:
        client = coordinator.client()
        with client.producer("s") as producer:
            producer.append(table)
            producer.append(table.slice(1))
        found = list(client.iterator("s", subscription=None, follow=False, schema=target))
    expected = [conform(batch) for part in (known, known.slice(1)) for batch in part.to_batches()]
    assert [batch.schema for batch in found] == [target] * len(expected)
    assert [batch.to_pylist() for batch in found] == [batch.to_pylist() for batch in expected]


def picked(array: pa.Array, rows: Sequence[int | None]) -> pa.Array:
    """pyarrow takes from arrays of most types, but not of all."""
    return pa.concat_arrays([pa.nulls(1, array.type) if row is None else array.slice(row, 1) for row in rows])


def of_all(wrapped: str, array: pa.Array) -> pa.Array:
    """Rows around the values of an array: with a null of their own where there can be one."""
    of, mask = WRAPPED[wrapped](array.type), pa.array([False, True, False])
    full = picked(array, [row for row in (0, 1, 2) if array[row].is_valid] * 3) if wrapped != "itself" else array
    if wrapped in ("list", "large_list"):
        return type(pa.array([], of)).from_arrays([0, 2, None, 3], array, type=of)
    if wrapped == "fixed_list":
        return pa.FixedSizeListArray.from_arrays(full, type=of, mask=mask)
    if wrapped == "list_view":
        return pa.ListViewArray.from_arrays([1, 0, 0], [2, 0, 3], array, type=of, mask=mask)
    if wrapped == "map":
        return pa.MapArray.from_arrays([0, 1, None, 3], full[:3], full[:3], type=of)
    if wrapped == "struct":
        return pa.StructArray.from_arrays([full[:3], of_all("list", array)], fields=list(of), mask=mask)
    if wrapped == "dictionary":
        return pa.DictionaryArray.from_arrays(pa.array([2, 0, None], pa.int8()), array)
    if wrapped == "run_end":
        return pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 5], pa.int32()), array)
    return array

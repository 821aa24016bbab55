# ruff: noqa: E501 - the tables have one row per type
"""What docs/types.md says: every Spark type to Arrow and back, every Arrow type into Spark."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import bowstring
from bowstring.streaming import to_spark_streaming
from bowstring.streaming.types import Conformer, to_arrow_schema, to_spark_schema

from .conftest import JVM, PYTHON, collect_available, read_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

#: name: (Spark type, SQL of the values, Arrow type)
SPARK_TYPES: dict[str, tuple[str, list[str], pa.DataType]] = {
    "boolean": ("boolean", ["true", "false"], pa.bool_()),
    "tinyint": ("tinyint", ["-128", "127"], pa.int8()),
    "smallint": ("smallint", ["-32768", "32767"], pa.int16()),
    "int": ("int", ["-2147483648", "2147483647"], pa.int32()),
    "bigint": ("bigint", ["-9223372036854775808", "9223372036854775807"], pa.int64()),
    "float": ("float", ["1.5", "float('-Infinity')"], pa.float32()),
    "double": ("double", ["-0.1", "double('Infinity')"], pa.float64()),
    "decimal_small": ("decimal(10,2)", ["-12345678.91", "0.01"], pa.decimal128(10, 2)),
    "decimal_large": ("decimal(38,18)", ["12345678901234567890.123456789012345678", "-0.5"], pa.decimal128(38, 18)),
    "string": ("string", ["''", "'Grüße 🏹'"], pa.string()),
    "varchar": ("varchar(5)", ["'abc'", "'abcde'"], pa.string()),
    "binary": ("binary", ["X'00FF'", "X''"], pa.binary()),
    "date": ("date", ["DATE'1582-10-15'", "DATE'9999-12-31'"], pa.date32()),
    "timestamp": ("timestamp", ["TIMESTAMP'2024-02-29 12:34:56.789012'", "TIMESTAMP'1969-12-31 23:59:59'"], pa.timestamp("us", "UTC")),
    "timestamp_ntz": ("timestamp_ntz", ["TIMESTAMP_NTZ'2024-03-31 02:30:00.000001'", "TIMESTAMP_NTZ'1900-01-01 00:00:00'"], pa.timestamp("us")),
    "time": ("time(6)", ["TIME'23:59:59.999999'", "TIME'00:00:00'"], pa.time64("ns")),
    "interval_day": ("interval day to second", ["INTERVAL '1 02:03:04.000005' DAY TO SECOND", "INTERVAL '-3' DAY"], pa.duration("us")),
    "array": ("array<int>", ["array(1, null, 3)", "array()"], pa.list_(pa.field("element", pa.int32()))),
    "map": (
        "map<string,timestamp>",
        ["map('a', TIMESTAMP'2024-01-01 00:00:00', 'b', null)", "map()"],
        pa.map_(pa.string(), pa.timestamp("us", "UTC")),
    ),
    "struct": (
        "struct<a:int,b:string>",
        ["named_struct('a', 1, 'b', null)", "named_struct('a', null, 'b', 'x')"],
        pa.struct([("a", pa.int32()), ("b", pa.string())]),
    ),
    "nested": (
        "array<struct<m:map<string,array<decimal(5,1)>>,t:timestamp>>",
        ["array(named_struct('m', map('k', array(1.5, null)), 't', TIMESTAMP'2024-01-01 00:00:00'), null)", "array()"],
        pa.list_(
            pa.field(
                "element",
                pa.struct([("m", pa.map_(pa.string(), pa.list_(pa.field("element", pa.decimal128(5, 1))))), ("t", pa.timestamp("us", "UTC"))]),
            )
        ),
    ),
    "void": ("void", ["null", "null"], pa.null()),
}  # fmt: skip


class RoundTrip:
    """One write and one read of a table that has every type as a column, and a row of nulls."""

    def __init__(self, spark: SparkSession, client: bowstring.Client, connector: str) -> None:
        rows = [0, 1, None]
        selects = [
            "SELECT "
            + ", ".join(
                f"CAST({'null' if row is None else values[row]} AS {spark_type}) AS {name}"
                for name, (spark_type, values, _) in SPARK_TYPES.items()
            )
            for row in rows
        ]
        frame = spark.sql(" UNION ALL ".join(selects)).coalesce(1)
        frame.write.format(connector).mode("append").option("url", client.url).option("stream", "types").save()
        self.before = frame.collect()
        client.complete_stream("types")
        self.stream_schema: pa.Schema = client.describe_stream("types")["schema"]
        self.arrow = pa.Table.from_batches(
            client.read("types", 0, 0, client.describe_stream("types")["partitions"][0]["end"])
        )
        back = read_stream(spark, client.url, "types", connector)
        self.back_schema = back.schema
        self.after = collect_available(back)


@pytest.fixture(scope="module")
def round_trip(spark: SparkSession, connector: str) -> Iterator[RoundTrip]:
    with bowstring.StreamCoordinator() as coordinator:
        yield RoundTrip(spark, coordinator.client(), connector)


@pytest.mark.parametrize("name", SPARK_TYPES)
def test_a_spark_type_becomes_its_arrow_type_and_comes_back(round_trip: RoundTrip, name: str) -> None:
    spark_type, _, arrow_type = SPARK_TYPES[name]
    assert round_trip.stream_schema.field(name).type == arrow_type
    assert round_trip.arrow.schema.field(name).type == arrow_type
    expected = "string" if spark_type.startswith("varchar") else spark_type
    assert round_trip.back_schema[name].dataType.simpleString() == expected
    assert [row[name] for row in round_trip.after] == [row[name] for row in round_trip.before]
    assert round_trip.after[2][name] is None


def test_a_variant_goes_through(spark: SparkSession, client: bowstring.Client, connector: str) -> None:
    frame = spark.sql('SELECT parse_json(\'{"a": [1, "x"]}\') AS v UNION ALL SELECT CAST(null AS variant)').coalesce(1)
    frame.write.format(connector).mode("append").option("url", client.url).option("stream", "v").save()
    back = read_stream(spark, client.url, "v", connector)
    assert back.schema["v"].dataType.simpleString() == "variant"
    rows = collect_available(back.selectExpr("to_json(v) AS v"))
    assert [row.v for row in rows] == ['{"a":[1,"x"]}', None]


@pytest.mark.parametrize(
    ("connector", "select", "reason"),
    [
        (PYTHON, "INTERVAL '1-2' YEAR TO MONTH AS i", "column 'i' is interval year to month"),
        (PYTHON, "array(INTERVAL '1' YEAR) AS i", r"column 'i\[\]'"),
        *((connector, "make_interval(1, 2, 0, 3) AS i", "INTERVAL") for connector in (PYTHON, JVM)),
        *((connector, "1 AS a, 2 AS a", "more than once|already exists") for connector in (PYTHON, JVM)),
    ],
)
def test_what_spark_cannot_write_fails_with_a_reason(
    spark: SparkSession, client: bowstring.Client, connector: str, select: str, reason: str
) -> None:
    writer = spark.sql(f"SELECT {select}").write.format(connector).mode("append")
    with pytest.raises(Exception, match=reason):
        writer.option("url", client.url).option("stream", "x").save()


UTC = dt.timezone.utc
DAY = dt.datetime(2024, 2, 29, 12, 0, 0, 123456)

#: name: (Arrow array, Spark type, values as Spark gives them)
ARROW_TYPES: dict[str, tuple[pa.Array, str, list[Any]]] = {
    "uint8": (pa.array([0, 255, None], pa.uint8()), "smallint", [0, 255, None]),
    "uint16": (pa.array([0, 65535, None], pa.uint16()), "int", [0, 65535, None]),
    "uint32": (pa.array([0, 2**32 - 1, None], pa.uint32()), "bigint", [0, 2**32 - 1, None]),
    "uint64": (pa.array([0, 2**64 - 1, None], pa.uint64()), "decimal(20,0)", [Decimal(0), Decimal(2**64 - 1), None]),
    "float16": (pa.array([0.5, -2.0, None], pa.float16()), "float", [0.5, -2.0, None]),
    "decimal32": (pa.array([Decimal("1.5"), None, Decimal("-2.0")], pa.decimal32(5, 1)), "decimal(5,1)", [Decimal("1.5"), None, Decimal("-2.0")]),
    "decimal256": (pa.array([Decimal("1.50"), None, Decimal(7)], pa.decimal256(38, 2)), "decimal(38,2)", [Decimal("1.50"), None, Decimal("7.00")]),
    "large_string": (pa.array(["a", None, "ü"], pa.large_string()), "string", ["a", None, "ü"]),
    "string_view": (pa.array(["a", None, "longer than twelve bytes"], pa.string_view()), "string", ["a", None, "longer than twelve bytes"]),
    "dictionary": (pa.array(["x", None, "x"]).dictionary_encode(), "string", ["x", None, "x"]),
    "large_binary": (pa.array([b"a", None, b""], pa.large_binary()), "binary", [b"a", None, b""]),
    "fixed_binary": (pa.array([b"ab", None, b"cd"], pa.binary(2)), "binary", [b"ab", None, b"cd"]),
    "date64": (pa.array([DAY.date(), None, dt.date(1970, 1, 1)], pa.date64()), "date", [DAY.date(), None, dt.date(1970, 1, 1)]),
    "time32": (pa.array([dt.time(1, 2, 3), None, dt.time(0)], pa.time32("ms")), "time(6)", [dt.time(1, 2, 3), None, dt.time(0)]),
    "timestamp_s": (pa.array([DAY.replace(microsecond=0), None, DAY.replace(microsecond=0)], pa.timestamp("s")), "timestamp_ntz", [DAY.replace(microsecond=0), None, DAY.replace(microsecond=0)]),
    "timestamp_ns_tokyo": (pa.array([1709208000123456789, None, 0], pa.int64()).cast(pa.timestamp("ns", "Asia/Tokyo")), "timestamp", [dt.datetime(2024, 2, 29, 12, 0, 0, 123456, UTC), None, dt.datetime(1970, 1, 1, tzinfo=UTC)]),
    "duration_ms": (pa.array([dt.timedelta(days=1, milliseconds=5), None, dt.timedelta(0)], pa.duration("ms")), "interval day to second", [dt.timedelta(days=1, milliseconds=5), None, dt.timedelta(0)]),
    "large_list": (pa.array([[1, None], None, []], pa.large_list(pa.int32())), "array<int>", [[1, None], None, []]),
    "fixed_list": (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.uint8(), 2)), "array<smallint>", [[1, 2], None, [3, 4]]),
    "list_view": (pa.array([["a"], None, []], pa.list_view(pa.string())), "array<string>", [["a"], None, []]),
    "map_wide": (pa.array([[("k", 1)], None, []], pa.map_(pa.large_string(), pa.uint16())), "map<string,int>", [{"k": 1}, None, {}]),
    "struct_wide": (pa.array([{"u": 1, "s": "x"}, None, {"u": None, "s": None}], pa.struct([("u", pa.uint32()), ("s", pa.large_string())])), "struct<u:bigint,s:string>", [(1, "x"), None, (None, None)]),
    "nested": (pa.array([[{"t": [1, 2]}], None, [None]], pa.large_list(pa.struct([("t", pa.list_(pa.uint8()))]))), "array<struct<t:array<smallint>>>", [[([1, 2],)], None, [None]]),
    "null": (pa.nulls(3), "void", [None, None, None]),
}  # fmt: skip


@pytest.fixture(scope="module")
def from_arrow(spark: SparkSession, connector: str) -> Iterator[dict[str, tuple[str, list[Any]]]]:
    """Every Arrow type as a column, through a stream into Spark; the second batch is a slice."""
    table = pa.table({name: array for name, (array, _, _) in ARROW_TYPES.items()})
    batch = table.combine_chunks().to_batches()[0]
    frame, handle = to_spark_streaming([batch, batch.slice(1)], spark, use_jvm_source=connector == JVM)
    with handle:
        handle.wait(10)
        rows = collect_available(frame)
        yield {name: (frame.schema[name].dataType.simpleString(), [row[name] for row in rows]) for name in ARROW_TYPES}


@pytest.mark.parametrize("name", ARROW_TYPES)
def test_an_arrow_type_becomes_a_spark_type(from_arrow: dict[str, tuple[str, list[Any]]], name: str) -> None:
    _, spark_type, values = ARROW_TYPES[name]
    found_type, found = from_arrow[name]
    assert found_type == spark_type
    if spark_type == "timestamp":
        found = [None if value is None else value.astimezone(UTC) for value in found]
    assert found == values + values[1:]


@pytest.mark.parametrize(
    ("of", "hint"),
    [
        (pa.month_day_nano_interval(), "append months as an integer"),
        (pa.dense_union([pa.field("a", pa.int32())]), "cast or drop it"),
        (pa.decimal256(50, 2), "at most 38 digits"),
        (pa.list_(pa.month_day_nano_interval()), r"column 'c\[\]'"),
    ],
)
def test_what_spark_has_no_type_for_is_refused_by_column(of: pa.DataType, hint: str) -> None:
    with pytest.raises(TypeError, match=hint):
        to_spark_schema(pa.schema([("c", of)]))


def test_columns_of_one_name_are_refused() -> None:
    with pytest.raises(TypeError, match="more than once"):
        to_spark_schema(pa.schema([("a", pa.int32()), ("a", pa.int32())]))


def test_a_negative_scale_becomes_whole_numbers() -> None:
    assert to_spark_schema(pa.schema([("d", pa.decimal128(2, -3))]))["d"].dataType.simpleString() == "decimal(5,0)"


def test_a_batch_is_reordered_and_an_extra_column_left_out() -> None:
    conform = Conformer(pa.schema([("a", pa.int64()), ("b", pa.string())]))
    batch = pa.record_batch({"x": [1], "b": pa.array(["y"]).dictionary_encode(), "a": pa.array([2], pa.int8())})
    assert conform(batch).to_pylist() == [{"a": 2, "b": "y"}]


def test_what_does_not_fit_is_refused_with_the_columns_name() -> None:
    conform = Conformer(pa.schema([("a", pa.int8())]))
    with pytest.raises(TypeError, match="column 'a' does not fit int8"):
        conform(pa.record_batch({"a": [1000]}))
    with pytest.raises(TypeError, match="lacks the columns"):
        conform(pa.record_batch({"b": [1]}))


def test_nulls_in_a_column_declared_without_are_refused() -> None:
    conform = Conformer(pa.schema([pa.field("a", pa.int64(), nullable=False)]))
    with pytest.raises(TypeError, match="1 nulls"):
        conform(pa.record_batch({"a": pa.array([1, None], pa.int32())}))


def test_a_spark_schema_survives_the_way_to_arrow_and_back() -> None:
    ddl = "a int, s struct<x:string, y:array<decimal(9,2)>>, m map<string,date>, t timestamp, n timestamp_ntz"
    from pyspark.sql.types import StructType

    schema = StructType.fromDDL(ddl)
    assert to_spark_schema(to_arrow_schema(schema)) == schema


def test_nan_stays_nan() -> None:
    conform = Conformer(pa.schema([("f", pa.float32())]))
    assert math.isnan(conform(pa.record_batch({"f": pa.array([float("nan")], pa.float16())}))["f"][0].as_py())

"""Arrow types and Spark types: what becomes what, and casting a batch to the one schema that Spark accepts.

Spark's Python reader takes a batch only if its schema is exactly the one that Spark derives from the
DataFrame's: same order, same string layout, microseconds in UTC. So every batch is cast on the Arrow level,
column by column, without ever becoming Python objects. The casts are worked out once per schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from bowstring._native import arrow_schema

if TYPE_CHECKING:
    from pyspark.sql.types import DataType, StructType

Cast = Callable[[pa.Array], pa.Array]

#: Arrow's type id of an interval of months, for which pyarrow has no predicate.
_INTERVAL_MONTHS = 21
#: Spark's largest decimal precision.
_PRECISION_MAX = 38


def to_spark_schema(schema: pa.Schema) -> StructType:
    """The Spark schema that a stream of this Arrow schema is read with.

    Raises TypeError, naming the column, for what Spark has no type for.
    """
    from pyspark.sql.types import StructField, StructType

    names = [field.name for field in schema]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TypeError(
            f"Spark needs columns of different names, but the stream has {twice} more than once; rename them"
        )
    return StructType([StructField(field.name, _spark_type(field, field.name), field.nullable) for field in schema])


def to_arrow_schema(schema: StructType) -> pa.Schema:
    """The Arrow schema that Spark reads and writes a DataFrame of this schema with, instants in UTC."""
    from pyspark.sql.pandas.types import to_arrow_schema as convert

    return convert(schema, timezone="UTC")


def to_jvm_schema(schema: StructType) -> pa.Schema:
    """The same, of the JVM connector, which has intervals of years and months too.

    Raises TypeError, naming the column, for what has no type in Arrow.
    """
    try:
        return pa.schema(arrow_schema(schema.json(), True))
    except ValueError as error:
        raise TypeError(str(error)) from error


def check_writable(schema: StructType) -> None:
    """Raises TypeError, naming the column, for what Spark cannot hand to Python as Arrow."""
    names = [field.name for field in schema]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TypeError(f"a stream needs columns of different names, but the DataFrame has {twice} more than once")
    for field in schema:
        _check_writable(field.dataType, field.name)


def settled(schema: pa.Schema) -> pa.Schema:
    """The schema with all instants in UTC, and text and bytes in their plain layout.

    Spark's batches carry the SQL session's time zone, and its layout of text is a setting; the values are the
    same, but a stream's schema must not depend on who runs the query.
    """
    fields = [pa.field(field.name, _settled(field.type), field.nullable, field.metadata) for field in schema]
    return pa.schema(fields)


class Conformer:
    """Casts and reorders batches to one schema; identity where nothing is to be done."""

    def __init__(self, target: pa.Schema) -> None:
        self.target = target
        self._source: pa.Schema | None = None
        self._casts: list[tuple[int, Cast | None]] = []

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch as the target schema has it.

        Raises TypeError, naming the column, where that would change values.
        """
        if batch.schema.equals(self.target, check_metadata=True):
            return batch
        if self._source is None or not batch.schema.equals(self._source, check_metadata=True):
            self._casts = self._plan(batch.schema)
            self._source = batch.schema
        columns = [self._column(batch, field, *step) for field, step in zip(self.target, self._casts, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=self.target)

    def _plan(self, source: pa.Schema) -> list[tuple[int, Cast | None]]:
        missing = [name for name in self.target.names if source.get_field_index(name) < 0]
        if missing:
            raise TypeError(
                f"the batch lacks the columns {missing}: it has {source.names}; give the DataFrame the stream's schema"
            )
        indexes = [source.get_field_index(field.name) for field in self.target]
        return [
            (index, cast_for(source.field(index).type, field.type))
            for index, field in zip(indexes, self.target, strict=True)
        ]

    @staticmethod
    def _column(batch: pa.RecordBatch, field: pa.Field, index: int, cast: Cast | None) -> pa.Array:
        column = batch.column(index)
        try:
            column = column if cast is None else cast(column)
        except pa.ArrowException as error:
            raise TypeError(
                f"column {field.name!r} does not fit {field.type}: {error}; cast it before it is appended"
            ) from error
        if not field.nullable and column.null_count:
            raise TypeError(
                f"column {field.name!r} has {column.null_count} nulls, but is declared without; declare it nullable"
            )
        return column


def cast_for(source: pa.DataType, target: pa.DataType) -> Cast | None:
    """How an array of one type becomes one of another; None if it is one already."""
    if isinstance(source, pa.BaseExtensionType):
        return _then(lambda array: array.storage, cast_for(source.storage_type, target))
    if pt.is_dictionary(source):
        return _then(lambda array: array.dictionary_decode(), cast_for(source.value_type, target))
    if pt.is_run_end_encoded(source):
        return _then(pc.run_end_decode, cast_for(source.value_type, target))
    if source.equals(target, check_metadata=True):
        return None
    if pt.is_struct(source) and pt.is_struct(target):
        return _cast_struct(source, target)
    if pt.is_map(source) and pt.is_map(target):
        return _cast_map(source, target)
    if pt.is_list(target) and _is_list(source):
        return _cast_list(source, target)
    options = pc.CastOptions(target, allow_time_truncate=True)
    return lambda array: pc.cast(array, options=options)


def _then(first: Cast, second: Cast | None) -> Cast:
    return first if second is None else lambda array: second(first(array))


def _cast_struct(source: pa.DataType, target: pa.DataType) -> Cast:
    missing = [field.name for field in target if source.get_field_index(field.name) < 0]
    if missing:
        raise TypeError(f"the struct lacks the fields {missing}: it has {[field.name for field in source]}")
    steps = [
        (source.get_field_index(field.name), cast_for(source.field(field.name).type, field.type)) for field in target
    ]

    def cast(array: pa.StructArray) -> pa.StructArray:
        children = [array.field(index) if step is None else step(array.field(index)) for index, step in steps]
        mask = array.is_null() if array.null_count else None
        if not children:
            return array
        return pa.StructArray.from_arrays(children, fields=list(target), mask=mask)

    return cast


def _cast_list(source: pa.DataType, target: pa.DataType) -> Cast:
    step = cast_for(source.value_type, target.value_type)

    def cast(array: pa.Array) -> pa.ListArray:
        values = pc.list_flatten(array)
        mask = array.is_null() if array.null_count else None
        return pa.ListArray.from_arrays(
            _offsets(array), values if step is None else step(values), type=target, mask=mask
        )

    return cast


def _offsets(lists: pa.Array) -> pa.Array:
    """Where each list's values begin, once they are flattened; a list that is null has none."""
    lengths = pc.list_value_length(lists).fill_null(0).cast(pa.int64())
    ends = pc.cumulative_sum(lengths).cast(pa.int32())
    return pa.concat_arrays([pa.array([0], pa.int32()), ends])


def _cast_map(source: pa.DataType, target: pa.DataType) -> Cast:
    key_step = cast_for(source.key_type, target.key_type)
    item_step = cast_for(source.item_type, target.item_type)

    def cast(array: pa.MapArray) -> pa.MapArray:
        array = pa.concat_arrays([array])
        keys = array.keys if key_step is None else key_step(array.keys)
        items = array.items if item_step is None else item_step(array.items)
        mask = array.is_null() if array.null_count else None
        return pa.MapArray.from_arrays(array.offsets, keys, items, type=target, mask=mask)

    return cast


def _is_list(of: pa.DataType) -> bool:
    return any(
        test(of)
        for test in (pt.is_list, pt.is_large_list, pt.is_fixed_size_list, pt.is_list_view, pt.is_large_list_view)
    )


def _check_writable(of: DataType, path: str) -> None:
    from pyspark.sql import types as spark

    if isinstance(of, (spark.YearMonthIntervalType, getattr(spark, "CalendarIntervalType", ()))):
        raise TypeError(
            f"column {path!r} is {of.simpleString()}, which Spark cannot hand over as Arrow; "
            "write months as an integer and times as an interval day to second"
        )
    if isinstance(of, spark.StructType):
        for field in of:
            _check_writable(field.dataType, f"{path}.{field.name}")
    elif isinstance(of, spark.ArrayType):
        _check_writable(of.elementType, f"{path}[]")
    elif isinstance(of, spark.MapType):
        _check_writable(of.keyType, f"{path}.key")
        _check_writable(of.valueType, f"{path}.value")


def _settled(of: pa.DataType) -> pa.DataType:
    if pt.is_large_string(of):
        return pa.string()
    if pt.is_large_binary(of):
        return pa.binary()
    if pt.is_timestamp(of) and of.tz is not None:
        return pa.timestamp(of.unit, tz="UTC")
    if pt.is_struct(of):
        return pa.struct([field.with_type(_settled(field.type)) for field in of])
    if pt.is_list(of):
        return pa.list_(of.value_field.with_type(_settled(of.value_type)))
    if pt.is_map(of):
        return pa.map_(of.key_field.with_type(_settled(of.key_type)), of.item_field.with_type(_settled(of.item_type)))
    return of


def _spark_type(field: pa.Field, path: str) -> DataType:
    """The Spark type of a field; `path` names the column in errors."""
    from pyspark.sql import types as spark
    from pyspark.sql.pandas.types import is_variant

    of = field.type
    while True:
        if isinstance(of, pa.BaseExtensionType):
            of = of.storage_type
        elif pt.is_dictionary(of) or pt.is_run_end_encoded(of):
            of = of.value_type
        else:
            break
    if simple := _SIMPLE.get(of.id):
        made: DataType = getattr(spark, simple)()
        return made
    if pt.is_uint64(of):
        return spark.DecimalType(20, 0)
    if pt.is_decimal(of):
        return _decimal_type(of, path)
    if pt.is_timestamp(of):
        return spark.TimestampNTZType() if of.tz is None else spark.TimestampType()
    if (pt.is_time32(of) or pt.is_time64(of)) and hasattr(spark, "TimeType"):
        return spark.TimeType()
    if pt.is_map(of):
        key = _spark_type(of.key_field, f"{path}.key")
        return spark.MapType(key, _spark_type(of.item_field, f"{path}.value"), of.item_field.nullable)
    if pt.is_struct(of):
        if is_variant(of):
            return spark.VariantType()
        return spark.StructType(
            [spark.StructField(sub.name, _spark_type(sub, f"{path}.{sub.name}"), sub.nullable) for sub in of]
        )
    if _is_list(of):
        return spark.ArrayType(_spark_type(of.value_field, f"{path}[]"), of.value_field.nullable)
    raise TypeError(_refusal(of, path))


def _decimal_type(of: pa.DataType, path: str) -> DataType:
    from pyspark.sql.types import DecimalType

    # Spark knows no negative scale: 12e3 as decimal(2, -3) becomes 12000 as decimal(5, 0).
    precision, scale = (of.precision, of.scale) if of.scale >= 0 else (of.precision - of.scale, 0)
    if max(precision, scale) > _PRECISION_MAX:
        raise TypeError(
            f"column {path!r} is {of}, but Spark's decimals have at most {_PRECISION_MAX} digits; "
            "cast it before it is appended"
        )
    return DecimalType(max(precision, scale), scale)


def _refusal(of: pa.DataType, path: str) -> str:
    hint = "cast or drop it before it is appended"
    if of.id == _INTERVAL_MONTHS or of.equals(pa.month_day_nano_interval()):
        hint = "append months as an integer and times as a duration"
    return f"column {path!r} is {of}, which Spark cannot read from Arrow; {hint}"


#: Arrow type id -> Spark type without parameters.
_SIMPLE = {
    pa.null().id: "NullType",
    pa.bool_().id: "BooleanType",
    pa.int8().id: "ByteType",
    pa.int16().id: "ShortType",
    pa.int32().id: "IntegerType",
    pa.int64().id: "LongType",
    pa.uint8().id: "ShortType",
    pa.uint16().id: "IntegerType",
    pa.uint32().id: "LongType",
    pa.float16().id: "FloatType",
    pa.float32().id: "FloatType",
    pa.float64().id: "DoubleType",
    pa.string().id: "StringType",
    pa.large_string().id: "StringType",
    pa.string_view().id: "StringType",
    pa.binary().id: "BinaryType",
    pa.large_binary().id: "BinaryType",
    pa.binary_view().id: "BinaryType",
    pa.binary(1).id: "BinaryType",
    pa.date32().id: "DateType",
    pa.date64().id: "DateType",
    pa.duration("us").id: "DayTimeIntervalType",
}

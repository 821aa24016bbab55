"""Every type through the JVM connector and back: random values, row by row what Spark's own Parquet gives back."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import bowstring

from .conftest import JVM
from .values import LEAVES, Type, differences, random_frame, texts

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Setting = Callable[[str, str], None]
PARQUET = [name for name in LEAVES if name != "void"]
COLUMNS: dict[str, dict[str, Type]] = {
    "plain": {f"c{at}": name for at, name in enumerate(PARQUET)},
    "arrays": {f"c{at}": [name] for at, name in enumerate(PARQUET)},
    "maps": {f"c{at}": ("string" if at % 2 else "int", name) for at, name in enumerate(PARQUET)},
    "structs": {"every": {f"f{at}": name for at, name in enumerate(PARQUET)}, "one": {"x": "timestamp"}},
    "deep": {
        "a": [[["decimal(38,18)"]]],
        "b": [{"m": ("string", ["timestamp"]), "v": "variant", "i": "interval year to month"}],
        "c": {"x": {"y": {"z": [("int", {"t": "time(6)", "d": "interval day to second"})]}}},
        "d": ("string", ("int", ["binary"])),
        "e": {"flags": ["boolean"], "more": {"texts": ["string"], "real": "double"}},
        "f": [["variant"]],
    },
}


@pytest.fixture
def seed() -> int:
    chosen = secrets.randbits(31)
    print(f"values of seed {chosen}")
    return chosen


def through_the_stream(frame: DataFrame, client: bowstring.Client, stream: str = "s") -> DataFrame:
    frame.write.format(JVM).mode("append").options(url=client.url, stream=stream).save()
    return frame.sparkSession.read.format(JVM).options(url=client.url, stream=stream).load()


def through_parquet(frame: DataFrame, directory: Path) -> DataFrame:
    frame.write.parquet(str(directory / "parquet"))
    return frame.sparkSession.read.parquet(str(directory / "parquet"))


@pytest.mark.parametrize("columns", COLUMNS)
def test_random_values_of_every_type_come_back_as_from_parquet(
    spark: SparkSession, client: bowstring.Client, setting: Setting, tmp_path: Path, seed: int, columns: str
) -> None:
    setting("spark.sql.execution.arrow.maxRecordsPerBatch", "17")
    frame = random_frame(spark, COLUMNS[columns], 100, seed)
    found = through_the_stream(frame, client)
    assert differences(through_parquet(frame, tmp_path), found) == []
    # Nobody closes what is read then, and all rows pass interpreted code.
    setting("spark.sql.codegen.wholeStage", "false")
    setting("spark.sql.codegen.factoryMode", "NO_CODEGEN")
    assert differences(frame, found) == []


def test_a_difference_is_seen_wherever_it_is(spark: SparkSession) -> None:
    pairs = [
        ("0.0D", "-0.0D"),
        ("array(double('NaN'))", "array(CAST(null AS double))"),
        ("named_struct('a', '')", "named_struct('a', CAST(null AS string))"),
        ("named_struct('a', CAST(null AS int))", "CAST(null AS struct<a:int>)"),
        ("map('a', X'00')", "map('a', X'0000')"),
        ("timestamp_micros(1)", "timestamp_micros(2)"),
        ("parse_json('1')", "parse_json('1.0')"),
        ("array(array(1))", "array(array(1), array())"),
    ]
    selects = (", ".join(f"{pair[side]} AS c{at}" for at, pair in enumerate(pairs)) for side in (0, 1))
    one, other = (texts(spark.sql(f"SELECT 0L AS id, {select}"))[0] for select in selects)
    assert [name for name in one if one[name] == other[name]] == []


def test_nothing_but_nulls_comes_back_as_it_was(spark: SparkSession, client: bowstring.Client) -> None:
    types = [
        "void", "array<void>", "struct<a:void,b:int>", "map<string,void>", *PARQUET, *(f"array<{of}>" for of in PARQUET)
    ]  # fmt: skip
    nulls = ", ".join(f"CAST(null AS {of}) AS c{at}" for at, of in enumerate(types))
    filled = "array(null, null) AS l, named_struct('a', null, 'b', 1) AS s, map('k', null) AS m"
    frame = spark.sql(f"SELECT id, {nulls}, {filled} FROM range(0, 5, 1, 2)")
    assert differences(frame, through_the_stream(frame, client)) == []


@pytest.mark.parametrize("zones", [("Asia/Kathmandu", "America/St_Johns"), ("America/St_Johns", "UTC")])
def test_an_instant_is_the_same_in_every_session_and_a_local_time_looks_the_same(
    spark: SparkSession, client: bowstring.Client, setting: Setting, seed: int, zones: tuple[str, str]
) -> None:
    columns: dict[str, Type] = {"t": "timestamp", "n": "timestamp_ntz", "d": "date", "l": [{"t": "timestamp"}]}
    written, read = zones
    setting("spark.sql.session.timeZone", written)
    frame = random_frame(spark, columns, 200, seed)
    expected = texts(frame)
    back = through_the_stream(frame, client)
    setting("spark.sql.session.timeZone", read)
    assert texts(back) == expected


def test_functions_of_arrays_and_maps_meet_their_nulls(
    spark: SparkSession, client: bowstring.Client, seed: int
) -> None:
    plain = ["boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "decimal(9,2)", "date", "timestamp"]
    columns: dict[str, Type] = {f"a{at}": [of] for at, of in enumerate(plain)}
    columns |= {f"m{at}": ("int", of) for at, of in enumerate(plain)}
    columns["s"] = [{"x": "int", "l": ["boolean"]}]
    frame = random_frame(spark, columns, 100, seed)
    functions = ["id"]
    for at in range(len(plain)):
        functions += [
            f"transform(a{at}, e -> e) AS t{at}",
            f"filter(a{at}, e -> e IS NOT NULL) AS f{at}",
            f"aggregate(a{at}, 0, (sum, e) -> sum + if(e IS NULL, 100, 1)) AS s{at}",
            f"array_distinct(a{at}) AS d{at}",
            f"transform_values(m{at}, (k, v) -> v) AS v{at}",
            f"map_values(m{at}) AS w{at}",
        ]
    functions += [
        "transform(s, e -> e.x) AS x",
        "transform(s, e -> get(e.l, 0)) AS y",
        "flatten(transform(s, e -> e.l)) AS z",
    ]
    found = through_the_stream(frame, client)
    assert differences(frame.selectExpr(*functions), found.selectExpr(*functions)) == []


def test_a_collated_string_keeps_its_characters(spark: SparkSession, client: bowstring.Client) -> None:
    frame = spark.sql("SELECT id, concat('Ä', id) COLLATE UNICODE_CI AS text FROM range(3)")
    back = through_the_stream(frame, client)
    assert sorted(row.text for row in back.collect()) == ["Ä0", "Ä1", "Ä2"]

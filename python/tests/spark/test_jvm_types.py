"""Every type through the JVM connector and back: random values, row by row what Spark's own Parquet gives back."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import bowstring

from .conftest import JVM
from .values import LEAVES, Type, differences, random_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Setting = Callable[[str, str], None]
#: Parquet has no void, and maps of variants cannot be built from arrays of structs.
PARQUET = [name for name in LEAVES if name != "void"]
COLUMNS: dict[str, dict[str, Type]] = {
    "plain": {f"c{at}": name for at, name in enumerate(PARQUET)},
    "arrays": {f"c{at}": [name] for at, name in enumerate(PARQUET)},
    "maps": {f"c{at}": ("string" if at % 2 else "int", name) for at, name in enumerate(PARQUET)},
    "structs": {"all": {f"f{at}": name for at, name in enumerate(PARQUET)}, "one": {"x": "timestamp"}},
    "deep": {
        "a": [[["decimal(38,18)"]]],
        "b": [{"m": ("string", ["timestamp"]), "v": "variant", "i": "interval year to month"}],
        "c": {"x": {"y": {"z": [("int", {"t": "time(6)", "d": "interval day to second"})]}}},
        "d": ("string", ("int", ["binary"])),
        "e": {"flags": ["boolean"], "more": {"texts": ["string"], "real": "double"}},
    },
}


@pytest.fixture
def seed() -> int:
    chosen = secrets.randbits(31)
    print(f"values of seed {chosen}")
    return chosen


def through_the_stream(frame: DataFrame, client: bowstring.Client) -> DataFrame:
    frame.write.format(JVM).mode("append").options(url=client.url, stream="s").save()
    return frame.sparkSession.read.format(JVM).options(url=client.url, stream="s").load()


def through_parquet(frame: DataFrame, directory: Path) -> DataFrame:
    frame.write.parquet(str(directory / "parquet"))
    return frame.sparkSession.read.parquet(str(directory / "parquet"))


@pytest.mark.parametrize("columns", COLUMNS)
def test_random_values_of_every_type_come_back_as_from_parquet(
    spark: SparkSession, client: bowstring.Client, setting: Setting, tmp_path: Path, seed: int, columns: str
) -> None:
    setting("spark.sql.execution.arrow.maxRecordsPerBatch", "17")
    frame = random_frame(spark, COLUMNS[columns], 100, seed)
    expected = through_parquet(frame, tmp_path)
    assert differences(expected, through_the_stream(frame, client)) == []

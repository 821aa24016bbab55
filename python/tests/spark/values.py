# ruff: noqa: E501 - the tables have one row per type
"""Random values of every type, made by Spark itself out of a seed, and the text that tells any two of them apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: 0 is there twice where a type has two; the smallest, what is no number, and ends of the range.
_REALS = (
    "CASE pmod({b}, 12) WHEN 0 THEN {of}('NaN') WHEN 1 THEN {of}('Infinity') WHEN 2 THEN {of}('-Infinity')"
    " WHEN 3 THEN {of}('-0.0') WHEN 4 THEN {of}('0') WHEN 5 THEN {of}('{least}') WHEN 6 THEN {of}('{most}')"
    " ELSE CAST({a} / 1e12D AS {of}) END"
)
_DIGITS = "lpad(pmod({a}, 100), 2, '0'), lpad(pmod({b}, 1000000000000000000), 18, '0'), lpad(pmod({a}, 999999999999999989), 18, '0')"
_SIGN = "if(pmod({b}, 2) = 0, '-', '')"
#: From the year 1 to 9999.
_INSTANT = (
    "timestamp_micros(CASE pmod({b}, 9) WHEN 0 THEN 0 WHEN 1 THEN -1 WHEN 2 THEN 4611686018427387904"
    " ELSE pmod({a}, 315537897600000000) - 62135596800000000 END)"
)

#: SQL of a value by type; {a} and {b} are random 64-bit integers.
LEAVES = {
    "boolean": "pmod({a}, 2) = 0",
    "tinyint": "CAST(pmod({a}, 256) - 128 AS tinyint)",
    "smallint": "CAST(pmod({a}, 65536) - 32768 AS smallint)",
    "int": "CAST(shiftright({a}, 32) AS int)",
    "bigint": "CASE pmod({b}, 9) WHEN 0 THEN -9223372036854775808L WHEN 1 THEN 9223372036854775807L ELSE {a} END",
    "float": _REALS.replace("{of}", "float").replace("{least}", "1.4E-45").replace("{most}", "3.4028235E38"),
    "double": _REALS.replace("{of}", "double").replace("{least}", "4.9E-324").replace("{most}", "1.7976931348623157E308"),
    "decimal(9,2)": "CAST(CAST({a} % 1000000000 AS decimal(20,0)) * 0.01 AS decimal(9,2))",
    "decimal(18,0)": "CAST({a} % 1000000000000000000 AS decimal(18,0))",
    "decimal(38,0)": f"CAST(concat({_SIGN}, {_DIGITS}) AS decimal(38,0))",
    "decimal(38,18)": f"CAST(concat({_SIGN}, CAST(pmod({{a}}, 10000000000000000000) AS string), '.', lpad(pmod({{b}}, 1000000000000000000), 18, '0')) AS decimal(38,18))",
    "decimal(38,38)": f"CAST(concat({_SIGN}, '0.', {_DIGITS}) AS decimal(38,38))",
    "string": (
        "CASE pmod({b}, 8) WHEN 0 THEN '' WHEN 1 THEN repeat(hex({a}), 200) WHEN 2 THEN 'Grüße 🏹 \\u0000 \\n\"'"
        " ELSE translate(hex({a}), '0123', 'äß🏹 ') END"
    ),
    "binary": "CASE pmod({b}, 8) WHEN 0 THEN X'' WHEN 1 THEN unhex(repeat(hex({a}), 100)) ELSE unhex(hex({a})) END",
    "date": "date_from_unix_date(CAST(pmod({a}, 3652059) - 719162 AS int))",
    "timestamp": _INSTANT,
    "timestamp_ntz": f"CAST({_INSTANT} AS timestamp_ntz)",
    "time(6)": "make_time(CAST(pmod({a}, 24) AS int), CAST(pmod({b}, 60) AS int), CAST(pmod({a}, 60000000) * 0.000001 AS decimal(16,6)))",
    "interval day to second": "make_dt_interval(CAST({a} % 100000000 AS int), 0, 0, CAST({b} % 100000000000 * 0.000001 AS decimal(18,6)))",
    "interval year to month": "make_ym_interval(0, CAST(shiftright({a}, 32) AS int))",
    "void": "NULL",
    "variant": (
        "CASE pmod({b}, 6) WHEN 0 THEN parse_json('null') WHEN 1 THEN to_variant_object(array({a}, {b}))"
        " WHEN 2 THEN CAST(timestamp_micros(pmod({a}, 4102444800000000)) AS variant) WHEN 3 THEN CAST(X'00FF' AS variant)"
        " WHEN 4 THEN parse_json('{{\"deep\": [{{\"er\": [1.50, \"x\", null, true]}}]}}')"
        " ELSE to_variant_object(named_struct('a', {a}, 's', hex({b}), 'd', CAST({b} AS decimal(38,3)))) END"
    ),
}  # fmt: skip

Type = str | list[Any] | tuple[Any, Any] | Mapping[str, Any]


class Values:
    """Random values; each column's are its own, and a fifth of them are null, at any depth."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._salts = itertools.count()

    def of(self, what: Type, *keys: str, nullable: bool = True) -> str:
        """SQL of a random value: a leaf by its name, `[of]` an array, `(key, of)` a map, `{name: of}` a struct."""
        made = self._made(what, *keys)
        return f"if(pmod({self._random(*keys)}, 5) = 0, NULL, {made})" if nullable else made

    def _made(self, what: Type, *keys: str) -> str:
        if isinstance(what, str):
            return "(" + LEAVES[what].format(a=self._random(*keys), b=self._random(*keys)) + ")"
        if isinstance(what, list):
            return self._each(keys, lambda *inner: self.of(what[0], *inner))
        if isinstance(what, tuple):
            # A map's keys are all different: their place is a part of them.
            name = f"k{next(self._salts)}"
            key = {"string": f"concat({name}, '-', hex({self._random(*keys)}))", "int": name}[what[0]]
            entries = self._each(
                keys, lambda *inner: f"struct({key.replace(name, inner[-1])}, {self.of(what[1], *inner)})"
            )
            return f"map_from_entries({entries})"
        fields = ", ".join(f"'{name}', {self.of(of, *keys)}" for name, of in what.items())
        return f"named_struct({fields})"

    def _each(self, keys: tuple[str, ...], of: Any) -> str:
        """An array of 0 to 3."""
        at = f"i{next(self._salts)}"
        element = of(*keys, at)
        return f"slice(transform(array(0, 1, 2), {at} -> {element}), 1, CAST(pmod({self._random(*keys)}, 4) AS int))"

    def _random(self, *keys: str) -> str:
        return f"xxhash64({', '.join(keys)}, {next(self._salts)}, {self._seed}L)"


def random_frame(spark: SparkSession, columns: Mapping[str, Type], rows: int, seed: int, tasks: int = 2) -> DataFrame:
    """`rows` rows with an `id` and these columns."""
    values = Values(seed)
    return spark.range(0, rows, 1, tasks).selectExpr(
        "id", *[f"{values.of(of, 'id')} AS {name}" for name, of in columns.items()]
    )


def texts(frame: DataFrame) -> dict[int, dict[str, str | None]]:
    """By id: each column as a text, which differs where the values do, and where their types do."""
    selects = [f"{_text(field.dataType, field.name)} AS {field.name}" for field in frame.schema if field.name != "id"]
    found = {row["id"]: row.asDict() for row in frame.selectExpr("id", *selects).collect()}
    for row in found.values():
        del row["id"]
    return found


def differences(expected: DataFrame, found: DataFrame) -> list[tuple[int, str, str | None, str | None]]:
    """Id, column, what was to be there and what is, of all that differ; types and rows have to be the same."""
    types = [[(field.name, field.dataType) for field in frame.schema] for frame in (expected, found)]
    assert types[0] == types[1]
    wanted, there = texts(expected), texts(found)
    assert there.keys() == wanted.keys()
    return list(_differ(wanted, there))


def _differ(
    wanted: dict[int, dict[str, str | None]], there: dict[int, dict[str, str | None]]
) -> Iterator[tuple[int, str, str | None, str | None]]:
    for row, columns in wanted.items():
        for name, text in columns.items():
            if there[row][name] != text:
                yield row, name, text, there[row][name]


def _text(of: Any, value: str, depth: int = 0) -> str:
    """SQL of the text of a value. Numbers that only their bits tell apart (0 and -0) are different texts."""
    name, at = of.typeName(), f"e{depth}"
    if name == "array":
        return f"to_json(transform({value}, {at} -> {_text(of.elementType, at, depth + 1)}))"
    if name == "map":
        key, inner = _text(of.keyType, f"{at}.key", depth + 1), _text(of.valueType, f"{at}.value", depth + 1)
        return f"to_json(transform(map_entries({value}), {at} -> array({key}, {inner})))"
    if name == "struct":
        fields = ", ".join(_text(field.dataType, f"{value}.{field.name}", depth) for field in of.fields)
        return f"if({value} IS NULL, NULL, to_json(array({fields})))"
    if name == "binary":
        return f"hex({value})"
    if name == "variant":
        return f"concat(schema_of_variant({value}), ' ', to_json({value}))"
    if name == "timestamp":
        return f"CAST(unix_micros({value}) AS string)"
    return f"CAST({value} AS string)"

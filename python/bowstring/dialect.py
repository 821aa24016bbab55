"""What a consumer wants its batches to look like: columns, their names and their types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

#: How strings and binary values lie in memory.
Strings = Literal["plain", "large", "view"]
#: A unit of timestamps.
TimeUnit = Literal["s", "ms", "us", "ns"]
#: Of a column other names that it has in batches.
Aliases = Mapping[str, "str | Sequence[str]"]

#: The keyword arguments that say it.
NAMES = ("schema", "aliases", "strings", "time_zone", "time_unit")


def plain_aliases(aliases: Aliases | None) -> dict[str, list[str]]:
    """As the native consumer takes them, and pickle."""
    given = {} if aliases is None else aliases
    return {name: [others] if isinstance(others, str) else list(others) for name, others in given.items()}


def plain_schema(schema: object | None) -> pa.Schema | None:
    """A schema of pyarrow's, of anything that has one."""
    return None if schema is None else pa.schema(schema)


def dialect_arguments(
    schema: object | None = None,
    aliases: Aliases | None = None,
    strings: str | None = None,
    time_zone: str | None = None,
    time_unit: str | None = None,
) -> dict[str, Any]:
    """What the native consumer takes."""
    return {
        "schema": plain_schema(schema),
        "aliases": plain_aliases(aliases),
        "strings": strings,
        "time_zone": time_zone,
        "time_unit": time_unit,
    }

"""Spark Structured Streaming on one side, bowstring streams on the other.

- :func:`from_spark_streaming`: a streaming DataFrame becomes a stream that any consumer reads.
- :func:`to_spark_streaming`: any source of Arrow tables becomes a streaming DataFrame.
- ``format("bowstring")`` for readStream, writeStream and write, once :func:`register` has been called.
- :func:`foreach_batch_writer`: the same sink for your own ``foreachBatch``.
- :func:`add_jar`: the same format without Python in the way, by the JVM connector; :func:`jar` says where its jar is.
- :func:`create_partitioned_iterators`: one iterator per consumer, static routing.
- :mod:`bowstring.streaming.monitor`: figures in the terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import monitor
from .consumers import create_partitioned_iterators

if TYPE_CHECKING:
    from .datasource import BowstringDataSource, register
    from .forward import from_spark_streaming, watch_query
    from .jvm import add_jar, jar
    from .query import StreamingQueryWrapper
    from .reverse import StreamingSourceHandle, to_spark_streaming
    from .sink import foreach_batch_writer

__all__ = [
    "BowstringDataSource",
    "StreamingQueryWrapper",
    "StreamingSourceHandle",
    "add_jar",
    "create_partitioned_iterators",
    "foreach_batch_writer",
    "from_spark_streaming",
    "jar",
    "monitor",
    "register",
    "to_spark_streaming",
    "watch_query",
]

# What needs pyspark is imported when it is used: consumers on other machines do without Spark.
_NEEDS_SPARK = {
    "BowstringDataSource": "datasource",
    "StreamingQueryWrapper": "query",
    "StreamingSourceHandle": "reverse",
    "add_jar": "jvm",
    "foreach_batch_writer": "sink",
    "from_spark_streaming": "forward",
    "jar": "jvm",
    "register": "datasource",
    "to_spark_streaming": "reverse",
    "watch_query": "forward",
}


def __getattr__(name: str) -> Any:
    """Imports the parts that need pyspark when they are first asked for."""
    if name not in _NEEDS_SPARK:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_NEEDS_SPARK[name]}", __name__), name)

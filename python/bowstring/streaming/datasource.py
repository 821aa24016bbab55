"""The Spark Data Source ``bowstring``: ``format("bowstring")`` for readStream, writeStream and write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql.datasource import DataSource

from .connections import client_of, is_connect
from .options import sink_options, source_options
from .types import to_spark_schema

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.types import StructType

    from .sink import BatchWriter, StreamWriter
    from .source import StreamReader


class BowstringDataSource(DataSource):
    """What ``format("bowstring")`` stands for. Spark pickles it by name: executors need the package too."""

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "bowstring"

    def schema(self) -> StructType:
        """The stream's schema, from the coordinator."""
        options = source_options(self.options)
        found = client_of(options).describe_stream(options.stream)["schema"]
        if found is None:
            raise ValueError(
                f"stream {options.stream!r} has no schema yet, since nothing was appended to it: "
                "give it one when you create it, or give the reader one with .schema(...)"
            )
        return to_spark_schema(found)

    def streamReader(self, schema: StructType) -> StreamReader:
        """For readStream."""
        from .source import StreamReader

        return StreamReader(source_options(self.options), schema)

    def streamWriter(self, schema: StructType, overwrite: bool) -> StreamWriter:
        """For writeStream."""
        from .sink import StreamWriter

        return StreamWriter(sink_options(self.options), schema)

    def writer(self, schema: StructType, overwrite: bool) -> BatchWriter:
        """For write, also inside foreachBatch."""
        from .sink import BatchWriter

        if overwrite:
            raise ValueError(
                "a stream cannot be overwritten; use mode('append'), or delete the stream and create it again"
            )
        return BatchWriter(sink_options(self.options), schema)


class PythonDataSource(BowstringDataSource):
    """The same under a name that the JVM connector does not have."""

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "bowstring-python"


def register(spark: SparkSession) -> None:
    """Makes ``format("bowstring")`` known to a session. The functions of this package do it by themselves.

    Call it in the thread that starts the query: Spark looks for Python's formats in that thread's active session.
    Where the JVM connector's jar is there (``add_jar``, ``spark.jars``), that is what ``format("bowstring")`` is, and
    ``format("bowstring-python")`` is this one.
    """
    from pyspark.errors import AnalysisException

    if not is_connect(spark):
        # A thread that Python has started has no active session yet; and where another session is active, Spark asks
        # that one whether the name is taken.
        sessions = getattr(spark._jvm, "org.apache.spark.sql.classic.SparkSession")
        sessions.setActiveSession(spark._jsparkSession)
    spark.dataSource.register(PythonDataSource)
    try:
        spark.dataSource.register(BowstringDataSource)
    except AnalysisException as error:
        if error.getCondition() != "DATA_SOURCE_ALREADY_EXISTS":
            raise

"""A program whose Spark has started without the connector's jar. It prints one JSON object."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa

import bowstring
from bowstring.streaming import from_spark_streaming, register, to_spark_streaming
from bowstring.streaming.jvm import PROVIDER

ROWS = 300


def main() -> dict[str, Any]:
    from conftest import start_spark

    spark = start_spark("local[2]")
    found: dict[str, Any] = {}
    try:
        register(spark)
        with bowstring.StreamCoordinator() as coordinator:
            found["before"] = connector_of(spark, coordinator)
            # The first to need the library is a thread that ends, and so does each after it.
            for number, sink in enumerate(("datasource", "foreach_batch", "datasource")):
                session = spark.newSession() if number == 1 else spark
                of = in_thread(
                    lambda sink=sink, number=number, session=session: forward(session, coordinator, sink, number)
                )
                found[f"forward {number}"] = of
            found["reverse"] = in_thread(lambda: reverse(spark, coordinator, "reverse"))
            found["reverse of another session"] = reverse(spark.newSession(), coordinator, "other")
            found["after"] = connector_of(spark, coordinator)
            found["after in a thread"] = in_thread(lambda: connector_of(spark, coordinator))
            found["by class name"] = batch(spark.newSession(), coordinator)
    finally:
        spark.stop()
    return found


def in_thread(run: Callable[[], Any]) -> Any:
    """What a thread gives that ends with it."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run()))
    thread.start()
    thread.join()
    return results[0] if results else None


def numbers(spark: Any) -> Any:
    return spark.readStream.format("rate-micro-batch").option("rowsPerBatch", ROWS).option("numPartitions", 3).load()


def forward(spark: Any, coordinator: bowstring.StreamCoordinator, sink: str, number: int) -> bool:
    """Whether all values arrive, once."""
    options: dict[str, Any] = {"coordinator": coordinator, "sink": sink, "use_jvm_sink": True, "num_partitions": 2}
    iterator, query = from_spark_streaming(numbers(spark), f"s{number}", trigger={"availableNow": True}, **options)
    values = sorted(value for batch in iterator for value in batch["value"].to_pylist())
    assert query.exception() is None, query.exception()
    query.stop()
    return len(values) in (ROWS, 2 * ROWS) and values == list(range(len(values)))


def reverse(spark: Any, coordinator: bowstring.StreamCoordinator, stream: str) -> bool:
    """Whether Spark has all values of a source of ten tables."""
    tables = (pa.table({"n": range(start, start + 10)}) for start in range(0, 100, 10))
    frame, handle = to_spark_streaming(
        tables, spark, stream, coordinator=coordinator, num_partitions=2, use_jvm_source=True
    )
    query = frame.writeStream.format("memory").queryName(stream).start()
    assert handle.drain(query, timeout=60)
    handle.close()
    return sorted(row.n for row in spark.sql(f"SELECT n FROM {stream}").collect()) == list(range(100))


def connector_of(spark: Any, coordinator: bowstring.StreamCoordinator) -> str:
    """What `format("bowstring")` is. Only the JVM's can write this type."""
    writer = spark.sql("SELECT INTERVAL '1' YEAR AS i").write.format("bowstring").mode("append")
    try:
        writer.options(url=coordinator.url, stream="intervals").save()
    except Exception as error:  # noqa: BLE001 - told to the test
        return str(error).splitlines()[0]
    return "jvm"


def batch(spark: Any, coordinator: bowstring.StreamCoordinator) -> int:
    options = {"url": coordinator.url, "stream": "batch"}
    spark.range(0, 100, 1, 4).write.format(PROVIDER).mode("append").options(**options).save()
    return int(spark.read.format(PROVIDER).options(**options).load().selectExpr("sum(id)").head()[0])


if __name__ == "__main__":
    print(json.dumps(main()))

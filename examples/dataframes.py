"""polars and duckdb read an iterator directly, each with a subscription of its own: both get everything."""

import duckdb
import polars as pl
import pyarrow as pa

import bowstring

with bowstring.StreamCoordinator() as coordinator:
    client = coordinator.client()
    for subscription in ("polars", "duckdb"):
        client.create_stream("sales", if_not_exists=True)
        client.subscribe("sales", subscription)  # from here on nothing is dropped before it has acked it
    with client.producer("sales") as producer:
        for day in range(7):
            producer.append(pa.table({"day": [day] * 2, "item": ["bow", "string"], "sold": [day, 2 * day]}))
        producer.complete()

    frame = pl.DataFrame(client.iterator("sales", subscription="polars"))
    print("polars:", frame.group_by("item").agg(pl.col("sold").sum()).sort("item").rows())

    sales = duckdb.from_arrow(client.iterator("sales", subscription="duckdb"))
    print("duckdb:", sales.aggregate("item, sum(sold)").order("item").fetchall())

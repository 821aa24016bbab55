"""polars, duckdb, pandas and DataFusion read a stream directly, by Arrow's C stream interface, without a copy.

polars and duckdb read all of it, each with a subscription of its own; pandas reads an epoch; DataFusion a range of
offsets, which ends by itself and needs no subscription.
"""

import datafusion
import duckdb
import polars as pl
import pyarrow as pa

import bowstring

with bowstring.StreamCoordinator() as coordinator:
    client = coordinator.client()
    for subscription in ("polars", "duckdb", "pandas", "nobody"):
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

    for epoch in client.subscription("sales", "pandas").epochs():  # what came without one is one by itself
        one = epoch.to_table().to_pandas()
        last = one.set_index("item")["sold"].to_dict()
    print("pandas, the last day:", last)

    schema = client.describe_stream("sales")["schema"]
    days = client.read("sales", 0, 2, 5)  # offsets 2, 3 and 4 of partition 0
    session = datafusion.SessionContext()
    table = session.from_arrow(pa.RecordBatchReader.from_batches(schema, days), "days")
    total = table.aggregate("item", datafusion.functions.sum(datafusion.col("sold")).alias("sold")).sort("item")
    print("datafusion, days 2 to 4:", [tuple(row.values()) for row in total.to_pylist()])

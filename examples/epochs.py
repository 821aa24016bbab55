"""Whole epochs: each that was committed is a bounded Arrow stream, acked in one piece; what fails comes again."""

import pyarrow as pa
import pyarrow.compute as pc

import bowstring


def commit(client: bowstring.Client, epoch: int, orders: list[list[int]]) -> None:
    """What Spark's tasks and driver do for each micro-batch, here by hand: a writer per task, then the commit."""
    receipts = []
    for task, amounts in enumerate(orders):
        writer = client.writer("orders", producer="shop", run="1", epoch=epoch, task=task, attempt=0)
        writer.append(pa.table({"epoch": [epoch] * len(amounts), "amount": amounts}), partition=task)
        receipts.append(writer.finish())
    client.commit_epoch("orders", "shop", "1", epoch, receipts)


with bowstring.StreamCoordinator(http=None) as coordinator:
    client = coordinator.client()
    client.create_stream("orders", partitions=2)
    for number in range(3):
        commit(client, number, [[10, 20, 30], [number]])
    client.complete_stream("orders")

    billing = client.subscription("orders", "billing")
    try:
        with billing.epochs() as epochs:
            for epoch in epochs:
                with epoch:  # acked at the end of the block, in all partitions at once, unless an exception leaves it
                    if epoch.id == 1:
                        raise ConnectionError("the bank does not answer")
                    print(f"epoch {epoch.id} of {epoch.producer}: {epoch.to_table().num_rows} rows")
    except ConnectionError as error:
        print(f"epoch 1 comes again: {error}")

    total = 0
    for epoch in billing.epochs():  # asking for the next epoch acks the one before
        amounts = pa.table(epoch)["amount"]  # or polars.DataFrame(epoch), duckdb, ...
        total += pc.sum(amounts).as_py()
        print(f"epoch {epoch.id}: {len(amounts)} rows")
    print("total of epochs 1 and 2:", total)

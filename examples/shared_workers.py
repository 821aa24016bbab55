"""Workers that share a subscription batch by batch: what none of them can do ends among the dead letters."""

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

import bowstring


def work(client: bowstring.Client) -> int:
    """Bills what it is given until the stream ends; how many orders that were."""
    billed = 0
    # At most 250 rows at once: a batch of 1,000 is divided among four workers.
    with client.iterator("orders", subscription="billing", max_rows=250) as batches:
        for handle in batches.handles():
            try:
                with handle:  # acked at the end of the block; refused, with the reason, if an exception leaves it
                    billed += bill(handle.batch)
            except ValueError:
                pass
    return billed


def bill(orders: pa.RecordBatch) -> int:
    if orders["amount"].null_count:
        raise ValueError("an order without an amount")
    return orders.num_rows


with bowstring.StreamCoordinator(http=None) as coordinator:
    client = coordinator.client()
    client.create_stream("orders")
    # Twice as it is; then by halves, until the bad rows are alone.
    sharing = bowstring.Sharing(max_deliveries=2, bisect=True)
    client.subscribe("orders", "billing", mode="shared", sharing=sharing)

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, client) for _ in range(4)]
        with client.producer("orders") as producer:
            for first in range(0, 5_000, 1_000):
                ids = range(first, first + 1_000)
                amounts = [None if one == 1_234 else one / 100 for one in ids]
                producer.append(pa.record_batch({"id": list(ids), "amount": pa.array(amounts, pa.float64())}))
        client.complete_stream("orders")
        print(sum(worker.result() for worker in workers), "orders billed")

    with client.iterator("orders.dead-letters", subscription=None, follow=False) as letters:
        for order in pa.Table.from_batches(letters).to_pylist():
            print(f"order {order['id']} after {order['bowstring_deliveries']} deliveries: {order['bowstring_reason']}")

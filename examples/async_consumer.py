"""An asyncio program reads two streams at once; waiting for a batch does not block its event loop."""

import asyncio

import pyarrow as pa

import bowstring


def produce(client: bowstring.Client, stream: str) -> None:
    with client.producer(stream) as producer:
        for number in range(5):
            producer.append(pa.table({"number": [number] * 100}))
        producer.complete()  # readers get what is there, then the end


async def consume(client: bowstring.Client, stream: str) -> int:
    rows = 0
    async for batch in client.iterator(stream):  # waits for the stream if it does not exist yet
        rows += batch.num_rows
    return rows


async def main(client: bowstring.Client) -> None:
    readers = [asyncio.create_task(consume(client, stream)) for stream in ("left", "right")]
    for stream in ("left", "right"):
        await asyncio.to_thread(produce, client, stream)
    print("rows read:", await asyncio.gather(*readers))


with bowstring.StreamCoordinator() as coordinator:
    asyncio.run(main(coordinator.client()))

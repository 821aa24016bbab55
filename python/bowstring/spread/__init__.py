"""Streams whose partitions are spread over several coordinators: more of them than one machine carries.

>>> from bowstring.spread import SpreadClient
>>> client = SpreadClient(["grpc://10.0.0.1:8815", "grpc://10.0.0.2:8815"])
>>> client.create_stream("clicks", partitions=8)
>>> with client.producer("clicks") as producer:
...     producer.append(table)
>>> for batch in client.iterator("clicks", partitions=[0, 1]):
...     print(batch.num_rows)

Partition p of a stream over n coordinators is partition p // n of coordinator p % n, which knows nothing of the others.
So the order of the coordinators is a part of what a stream is: name them in the same order everywhere.
"""

from __future__ import annotations

from bowstring.spread.client import SpreadClient
from bowstring.spread.iterator import SpreadIterator
from bowstring.spread.places import Places
from bowstring.spread.producer import SpreadProducer

__all__ = ["Places", "SpreadClient", "SpreadIterator", "SpreadProducer"]

"""bowstring on Ray: coordinators and consumers as actors, streams as datasets."""

from __future__ import annotations

from bowstring.ray.datasink import StreamDatasink, write_bowstring
from bowstring.ray.datasource import StreamRange, read_bowstring, unread
from bowstring.ray.pool import ConsumerPool, Moment, PoolStats

__all__ = [
    "ConsumerPool",
    "Moment",
    "PoolStats",
    "StreamDatasink",
    "StreamRange",
    "read_bowstring",
    "unread",
    "write_bowstring",
]

"""bowstring on Ray: coordinators and consumers as actors, streams as datasets."""

from __future__ import annotations

from bowstring.ray.coordinators import Coordinators, CoordinatorStatus, coordinators, start_coordinators
from bowstring.ray.datasink import StreamDatasink, write_bowstring
from bowstring.ray.datasource import StreamRange, read_bowstring, unread
from bowstring.ray.moments import Moment, PoolStats
from bowstring.ray.pool import ConsumerPool

__all__ = [
    "ConsumerPool",
    "CoordinatorStatus",
    "Coordinators",
    "Moment",
    "PoolStats",
    "StreamDatasink",
    "StreamRange",
    "coordinators",
    "read_bowstring",
    "start_coordinators",
    "unread",
    "write_bowstring",
]

"""bowstring on Ray: coordinators and consumers as actors, streams as datasets."""

from __future__ import annotations

from bowstring.ray.pool import ConsumerPool, Moment, PoolStats

__all__ = ["ConsumerPool", "Moment", "PoolStats"]

"""bowstring on Ray: coordinators and consumers as actors, streams as datasets."""

from __future__ import annotations

from bowstring.ray.coordinators import Coordinators, CoordinatorStatus, coordinators, start_coordinators

__all__ = ["CoordinatorStatus", "Coordinators", "coordinators", "start_coordinators"]

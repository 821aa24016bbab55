"""bowstring on Ray: coordinators and consumers as actors, streams as datasets."""

from __future__ import annotations

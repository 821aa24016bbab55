"""What spawned workers of a loader import, by a name of its own: the tests' package has none there."""

from __future__ import annotations

import os
from typing import Any


def with_process(values: dict[str, Any]) -> dict[str, Any]:
    """The batch, and the process that it was made in."""
    return {**values, "process": os.getpid()}

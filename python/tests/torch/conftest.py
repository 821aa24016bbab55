"""Where processes that a loader spawns find in_workers.py: they get this process's path."""

from __future__ import annotations

import sys
from pathlib import Path

# Last: Spark's tests have a conftest that they import by that name.
sys.path.append(str(Path(__file__).parent))

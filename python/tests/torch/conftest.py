"""Where processes that a loader spawns find in_workers.py: they get this process's path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

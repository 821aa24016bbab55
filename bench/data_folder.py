"""Where benchmarks of the disk have their files: a folder of its own per measurement, gone afterwards."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Memory: nothing there ever gets to a disk.
NO_DISKS = {"tmpfs", "ramfs"}


@contextmanager
def data_folder() -> Iterator[Path]:
    """An empty folder under BENCH_DATA_DIR, or else beside what cargo has built."""
    parent = Path(os.environ.get("BENCH_DATA_DIR") or os.environ["CARGO_TARGET_DIR"]).resolve()
    kind = file_system(parent)
    if kind in NO_DISKS:
        raise RuntimeError(f"{parent} is a {kind}, which is no disk; name a folder on one with BENCH_DATA_DIR")
    with tempfile.TemporaryDirectory(dir=parent, prefix="bench-data-") as folder:
        yield Path(folder)


def file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The kind of file system; empty where the system does not tell."""
    try:
        mounted = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    except OSError:
        return ""
    inside = [(len(point), kind) for point, kind in mounted if path.is_relative_to(point)]
    return max(inside, default=(0, ""), key=lambda one: one[0])[1]


def forget_cached(folder: Path) -> None:
    """What is in the folder's files comes from the disk again, as after a power loss."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                # Only what has been written back can be dropped.
                os.fdatasync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

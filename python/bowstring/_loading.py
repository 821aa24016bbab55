"""Loads the native module from a thread that never ends, where that is not the main thread's import.

The module's allocator (mimalloc 3.3) takes the thread that loads it for the process's main one. When that thread has
ended and another one gets its id, that one would crash the process (github.com/microsoft/mimalloc/issues/1287).
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading


def load() -> None:
    """Comes before the first import of ``bowstring._native``, which then finds it loaded."""
    found = importlib.util.find_spec("bowstring._native")
    if threading.current_thread() is threading.main_thread() or found is None or found.origin is None:
        return
    threading.Thread(target=_load_and_stay, args=(found.origin, loaded := threading.Event()), daemon=True).start()
    loaded.wait()


def _load_and_stay(path: str, loaded: threading.Event) -> None:
    try:
        ctypes.CDLL(path)
    finally:
        # If it cannot be loaded, the import says why.
        loaded.set()
    threading.Event().wait()


load()

"""A Ray of its own for each file of tests, small: what another file has left keeps no slot."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import ray

# Ray's workers cannot import the tests, which are no installed package.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__.partition(".")[0]])


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    """A Ray of 8 slots on this machine: slots are numbers, so that more actors than cores fit."""
    ray.init(num_cpus=8, include_dashboard=False, object_store_memory=256 << 20, log_to_driver=False)
    yield
    ray.shutdown()

"""Our stores' own suites, with the model as the server: what they want of Redis, the model does, too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from modelled_redis import RedisServer
from redis_edge import modelled

STORES = Path(__file__).parents[2] / "stream/store"


def tests_and_fixtures(file: Path) -> dict[str, Any]:
    """Returns what pytest collects from a module, which is none of its own here: its fixture `redis_url` is ours."""
    spec = spec_from_file_location(f"modelled_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return {
        name: one
        for name, one in vars(module).items()
        if name.startswith("test_") or name in ("store", "redis_store", "redis")
    }


@pytest.fixture
def redis_url() -> Iterator[str]:
    with modelled(RedisServer(time.time)):
        yield "redis://127.0.0.1:1/0"  # where nobody listens


class TestRedisStore:
    pass


class TestDaysStore:
    pass


for room, name in ((TestRedisStore, "test_redis_store"), (TestDaysStore, "test_days_store")):
    for key, one in tests_and_fixtures(STORES / f"{name}.py").items():
        setattr(room, key, staticmethod(one) if key.startswith("test_") else one)

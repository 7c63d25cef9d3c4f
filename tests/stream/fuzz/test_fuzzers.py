"""The functions that fuzzers watch exist: a rename had stopped fuzz_record.py, and only who ran it could notice."""

from __future__ import annotations

import importlib
import operator

import pytest


@pytest.mark.parametrize("fuzzer", ["fuzz_record", "fuzz_state"])
def test_what_a_fuzzer_watches_is_there(fuzzer: str) -> None:
    watched: dict[str, str] = importlib.import_module(fuzzer).WATCHED
    for module, names in watched.items():
        for name in names.split():
            assert callable(operator.attrgetter(name)(importlib.import_module(module))), f"{module}.{name}"

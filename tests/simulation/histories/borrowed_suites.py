"""Lends the tests of another file to a module that has other fixtures for them."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[2]


def borrow_tests(file: str) -> dict[str, Any]:
    """Returns the test functions of a file under tests/, by name, for the globals of a module that pytest collects."""
    spec = spec_from_file_location(f"borrowed_{Path(file).stem}", TESTS / file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: one for name, one in vars(module).items() if name.startswith("test_")}

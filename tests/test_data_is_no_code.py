"""Nothing that is loaded can run: what ruff's rules (pyproject.toml) do not see of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = ("pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib")


def risks(source: str) -> Iterator[str]:
    """What could build objects of any class, or run, from bytes that came from elsewhere."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if any(name.split(".")[0] in FORBIDDEN for name in names):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr not in ("load", "read_pickle"):
                continue
            called, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            of_torch = called in ("torch.load", "torch.jit.load") and given.get("weights_only") != "True"
            if of_torch or given.get("allow_pickle", "False") != "False" or called.endswith("read_pickle"):
                yield ast.unparse(node)


def test_nothing_that_is_loaded_may_build_any_object() -> None:
    sources = [path for name in ("model", "stream", "train") for path in (ROOT / name).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix(): [*risks(path.read_text())] for path in sources}
    assert len(found) > 100
    assert {path: calls for path, calls in found.items() if calls} == {}


def test_what_serves_reads_no_file_of_torch_at_all() -> None:
    """safetensors holds numbers and nothing else; the trainer's own checkpoints are read with weights_only."""
    sources = [path for name in ("model", "stream") for path in (ROOT / name).rglob("*.py")]
    assert [path for path in sources if " torch.load(" in path.read_text()] == []


@pytest.mark.parametrize(
    "bad",
    [
        *("import pickle", "from pickle import loads", "import marshal as m", "torch.load(path)"),
        *("torch.load(path, weights_only=False)", "np.load(f, allow_pickle=True)", "pd.read_pickle(f)"),
    ],
)
def test_each_of_them_would_be_seen(bad: str) -> None:
    assert [*risks(f"def f():\n    {bad}\n")] == [bad]

"""What is compiled and kept is the code of the sources that are there, and no start needs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numba.core.caching import CompileResultCacheImpl

from model import machine_code
from model.jit import compiled
from model.kinematics import motion

ROOT = Path(motion.__file__).parents[2]
FOLD = """
import numpy as np
from model.config import SMALL
from model.kinematics import motion
from model.serving import step_compiled
row, out = motion.fresh(SMALL, (1,)), np.empty(motion.WIDTH)
row[0] += 1.0
step_compiled._fold(row[0], 10.0, 30.0, 40.0, False, 0.0, 0.0, *step_compiled.physics(SMALL), out)
defined = motion.fold(row, np.array([10.0]), np.array([[30.0, 40.0]]), SMALL)[0]
print(step_compiled._fold.stats.cache_hits.total(), np.allclose(out, defined), *out)
"""
FORECAST = """
from hashlib import blake2b
import numpy as np
from model.api import FIX, Predictor
from model.kernels import linear
rng, fixes = np.random.default_rng(0), np.zeros((64, 70), FIX)
fixes["ts_ms"] = 1_700_000_000_000 + np.cumsum(rng.integers(1_000, 60_000, (64, 70)), axis=1)
fixes["lat_e7"], fixes["lon_e7"] = np.cumsum(rng.normal(0, 5_000, (2, 64, 70)), axis=2).astype(np.int64)
predictor = Predictor.load("small")
slots = predictor.acquire(64)
for t in range(70):
    predictor.advance(slots, fixes[:, t])
said = predictor.forecast(slots, [60.0, 900.0])
print(linear.project.stats.cache_hits.total(), *(blake2b(np.asarray(part).tobytes()).hexdigest() for part in said))
"""
SMALLEST = """
import numpy as np
from model.kernels.attention import fault
print(fault(np.array([1, 1]), np.zeros(3, np.int64), np.zeros(3, np.int64), 7), fault.stats.cache_hits.total())
"""
ONCE = """
import sys, time
from pathlib import Path
from model import machine_code
from model.jit import compiling
from model.kernels.attention import fault
import numpy as np
machine_code.LOOK_EVERY_S, machine_code.SHOWN_EVERY_S = 0.01, 0.0
lines = []
def say(line):
    lines.append(line)
    if line.startswith("another process compiles"):
        Path("waits").touch()
with compiling(say):
    fault(np.array([1, 1]), np.zeros(3, np.int64), np.zeros(3, np.int64), 7)
    if "hold" in sys.argv:
        Path("compiled").touch()
        while not Path("go_on").exists():
            time.sleep(0.01)
    assert "fail" not in sys.argv
print(fault.stats.cache_hits.total(), lines)
"""


KERNEL = """
import numba
from number import NUMBER
@numba.njit(cache=True)
def number():
    return NUMBER
"""


def started(program: str, root: Path, **more: str) -> tuple[list[str], str]:
    """What a process of its own prints, and what it complains of."""
    of = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env=of | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"} | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split(), run.stderr


@pytest.mark.slow
def test_who_compiles_the_kernels_forecasts_to_the_bit_as_who_loads_them(tmp_path: Path) -> None:
    """Or a replay would not equal the worker that was the first to start after an installation."""
    hits, *compiled_here = started(FORECAST, ROOT, NUMBA_CACHE_DIR=str(tmp_path))[0]
    again, *loaded = started(FORECAST, ROOT, NUMBA_CACHE_DIR=str(tmp_path))[0]
    assert (hits, again) == ("0", "1")
    assert compiled_here == loaded


def test_a_release_that_changes_another_file_runs_its_own_code(tmp_path: Path) -> None:
    """numba looks at the file of the function alone: `step_compiled` went on with the MEMORY of the release before."""
    shutil.copytree(ROOT / "model", tmp_path / "model", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    hits, same, *first = started(FOLD, tmp_path)[0]
    assert (hits, same) == ("0", "True")
    assert started(FOLD, tmp_path)[0] == ["1", "True", *first], "the second start compiles nothing"
    file = tmp_path / "model" / "kinematics" / "motion.py"
    file.write_text(file.read_text().replace("MEMORY: Final = 0.2", "MEMORY: Final = 0.5"))
    hits, same, *then = started(FOLD, tmp_path)[0]
    assert (hits, same) == ("0", "True")
    assert then != first
    assert started(FOLD, tmp_path)[0] == ["1", "True", *then]


@pytest.mark.slow
def test_numba_alone_would_run_the_release_before_and_end_at_a_damaged_file(tmp_path: Path) -> None:
    """This is why `model.machine_code` has a cache of its own. If numba learns either, a part of it can go."""
    program, number = "from kernel import number; print(number())", tmp_path / "number.py"
    (tmp_path / "kernel.py").write_text(KERNEL)
    number.write_text("NUMBER = 1\n")
    assert started(program, tmp_path)[0] == ["1"]
    number.write_text("NUMBER = 2\n")
    assert started(program, tmp_path)[0] == ["1"], "it is 2"
    for file in tmp_path.rglob("*.nbc"):
        os.truncate(file, 0)
    with pytest.raises(AssertionError, match="EOFError"):
        started(program, tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one start keeps."""
    folder = tmp_path_factory.mktemp("whole")
    assert started(SMALLEST, ROOT, NUMBA_CACHE_DIR=str(folder)) == (["2", "0"], "")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("left", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_what_is_damaged_costs_one_start_its_compiling(kind: str, left: float, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    files = list(tmp_path.rglob(f"*.{kind}"))
    assert files
    for file in files:
        os.truncate(file, int(left * file.stat().st_size))
    said, complaint = started(SMALLEST, ROOT, NUMBA_CACHE_DIR=str(tmp_path))
    assert said == ["2", "0"]
    assert complaint.count("\n") == 1
    assert str(files[0].parent) in complaint
    assert started(SMALLEST, ROOT, NUMBA_CACHE_DIR=str(tmp_path)) == (["2", "1"], "")


@pytest.mark.slow
def test_a_disk_that_takes_no_more_costs_the_compiling_of_each_start(tmp_path: Path) -> None:
    """A limit on files stands in for the disk: to open them works, as does what numba tries beforehand."""
    for room in (64, 4096, 4096):  # 4096: an index can be written, and no code
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
        said, complaint = started(limit + SMALLEST, ROOT, NUMBA_CACHE_DIR=str(tmp_path))
        assert said == ["2", "0"]
        assert complaint.count("\n") == 1
        assert "File too large" in complaint
    assert started(SMALLEST, ROOT, NUMBA_CACHE_DIR=str(tmp_path)) == (["2", "0"], "")


def test_numba_still_keeps_code_as_this_module_knows_it() -> None:
    made = compiled(lambda x: x + 1)
    assert isinstance(made._cache, machine_code._TolerantCache)
    assert made(np.int64(1)) == 2


def test_a_numba_that_would_not_ask_it_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_code._TolerantCache, "_impl_class", CompileResultCacheImpl)
    made = compiled(lambda x: x + 1)
    assert not isinstance(made._cache, machine_code._TolerantCache)
    assert made(np.int64(1)) == 2
    assert made.stats.cache_path is None


def test_one_process_compiles_for_all_that_start_meanwhile(tmp_path: Path) -> None:
    """The second waits for the first, and loads what that has compiled; later ones neither wait nor compile."""
    cache, here = str(tmp_path / "cache"), tmp_path / "here"
    here.mkdir()
    env = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", ONCE]
    how = {"cwd": here, "env": env, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "hold"], **how) as first:
        while not (here / "compiled").exists():
            assert first.poll() is None
            time.sleep(0.01)
        with subprocess.Popen(command, **how) as second:
            while not (here / "waits").exists():
                assert second.poll() is None, "it has not waited"
                time.sleep(0.01)
            (here / "go_on").touch()
            assert second.communicate(timeout=300)[0].startswith("1 ['another process compiles kernels")
        assert first.communicate(timeout=300)[0].startswith("0 ['compiling kernels: 1 so far")
    third = subprocess.run(command, **how, check=True, timeout=300)
    assert third.stdout.strip() == "1 []"


def test_who_fails_while_it_compiles_leaves_it_to_the_next(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}
    how = {"env": env, "capture_output": True, "text": True, "timeout": 60}
    failed = subprocess.run([sys.executable, "-c", ONCE, "fail"], **how, check=False)
    assert "AssertionError" in failed.stderr
    assert not list(tmp_path.rglob("*.compiled"))
    subprocess.run([sys.executable, "-c", ONCE], **how, check=True)
    assert len(list(tmp_path.rglob("*.compiled"))) == 1

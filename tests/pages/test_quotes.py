"""Each command and option that a page or a help text names is one that this version has."""

from __future__ import annotations

import tomllib

import pytest
from page_blocks import ROOT, pages
from page_quotes import examples, extras, in_other_blocks, quotes, unknown_options, wrong

OF_THE_PAST = ("reports/bench.md",)  # what was measured, by the commands of its day
QUOTES = [
    (page, quoted)
    for page in pages()
    if page not in OF_THE_PAST
    for quoted in quotes((ROOT / page).read_text(encoding="utf-8"))
]


def _is_record(page: str) -> bool:
    return page.startswith("reports/") or page == "CHANGELOG.md"


def test_commands_in_the_text_of_pages_are_known() -> None:
    told = [
        f"{page}: `{quoted}`: {why}" for page, quoted in QUOTES if (why := wrong(quoted, of_its_day=_is_record(page)))
    ]
    assert not told, "\n".join(told)
    assert sum(quoted.startswith("pathcast ") for _, quoted in QUOTES) > 100, "they are found at all"


def test_options_that_are_named_alone_are_of_some_command() -> None:
    told = [f"{page}: `{quoted}`: {one}" for page, quoted in QUOTES for one in unknown_options(quoted)]
    assert not told, "\n".join(told)


def test_examples_of_help_texts_are_known() -> None:
    found = list(examples())
    assert len(found) > 50
    assert [f"{one}: {why}" for one in found if (why := wrong(one))] == []


def test_commands_in_blocks_of_other_languages_are_known() -> None:
    found = [(page, one) for page in pages() for one in in_other_blocks((ROOT / page).read_text(encoding="utf-8"))]
    assert [f"{page}: {one}: {why}" for page, one in found if (why := wrong(one))] == []


def test_extras_that_pages_and_messages_name_are_there() -> None:
    there = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    code = [path for name in ("model", "stream", "train") for path in (ROOT / name).rglob("*.py")]
    found = {path: extras(path.read_text(encoding="utf-8")) for path in (*code, *(ROOT / page for page in pages()))}
    assert {str(path): more for path, named in found.items() if (more := named - there)} == {}
    assert len(set().union(*found.values())) > 8


@pytest.mark.parametrize(
    ("quoted", "why"),
    [
        ("pathcast worker --made-up 3", "pathcast worker has no option --made-up"),
        ("pathcast verify --registry=URL --made-up", "pathcast verify has no option --made-up"),
        ("pathcast models made-up", "pathcast models has no command made-up"),
        (".venv/bin/pathcast made-up", "pathcast has no command made-up"),
        ("beside scores --made-up", "pathcast beside has no option --made-up"),
        ("pathcast worker --delivery twice", "takes at_least_once, exactly_once, not twice"),
        ("python -m stream.made_up", "there is no module stream.made_up"),
        ("python -m stream.demo", "there is no module stream.demo that can run"),
        ("python deploy/made_up.py", "there is no deploy/made_up.py"),
        ("python tests/stream/fuzz/fuzz_clean.py --made-up", "has no --made-up"),
        ("pytest tests/made_up", "there is no tests/made_up"),
        ("pytest tests/pages/test_quotes.py::test_made_up", "has no test_made_up"),
        (".venv/bin/pytest --made-up", "pytest has no option --made-up"),
    ],
)
def test_what_is_made_up_is_found(quoted: str, why: str) -> None:
    assert why in (wrong(quoted) or "")


@pytest.mark.parametrize(
    "quoted",
    [
        "pathcast worker --delivery=exactly_once --no-create",
        "pathcast feed SOURCE --speedup 60",
        "pathcast dev bench NAME",
        "pathcast --version",
        "python -m pathcast",
        ".venv/bin/pytest --chaos-pings 8000 tests/pages/test_quotes.py::test_what_is_made_up_is_found",
        "seconds --made-up",
    ],
)
def test_what_is_there_is_no_fault(quoted: str) -> None:
    assert wrong(quoted) is None


def test_quotes_over_two_lines_and_in_tables_are_read() -> None:
    text = "a `pathcast\nverify` b\n\n```sh\n`pathcast no`\n```\n| `a\\|b` |\n"
    assert list(quotes(text)) == ["pathcast verify", "a|b"]
    assert unknown_options("x --made-up") == ["--made-up"]
    assert unknown_options("kubectl get --made-up") == []
    assert in_other_blocks("```\npathcast made-up\n```\n\n```yaml\nrun: 1\n```\n") == ["pathcast made-up"]
    assert extras("pip install 'pathcast[a,b]' -e '.[c]'") == {"a", "b", "c"}

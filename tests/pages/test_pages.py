"""Every block of commands on every page is run as it is written, or it is said who runs it, or why nobody does."""

from __future__ import annotations

from pathlib import Path

import page_files
import pytest
from page_blocks import ROOT, Block, all_blocks, blocks_of, commands
from page_runs import Elsewhere, Not, Run, Scene, Verdict, execute
from page_verdicts import VERDICTS

BLOCKS = all_blocks()


def verdicts_on(block: Block) -> list[Verdict]:
    return [verdict for begin, verdict in VERDICTS.get(block.page, {}).items() if block.text.startswith(begin)]


RUN = [(block, verdict) for block in BLOCKS for verdict in verdicts_on(block) if isinstance(verdict, Run)]


def test_no_block_of_commands_is_without_a_verdict() -> None:
    wrong = [f"{block.name}: {block.first}" for block in BLOCKS if len(verdicts_on(block)) != 1]
    assert not wrong, "no verdict, or several, in tests/pages/page_verdicts.py:\n" + "\n".join(wrong)


def test_no_verdict_is_on_a_block_that_is_gone() -> None:
    there = {(page, begin) for page, given in VERDICTS.items() for begin in given}
    used = {(b.page, begin) for b in BLOCKS for begin in VERDICTS.get(b.page, {}) if b.text.startswith(begin)}
    assert there == used, f"of no block: {sorted(there - used)}"


def test_who_runs_a_block_elsewhere_reads_its_page() -> None:
    for block in BLOCKS:
        for verdict in verdicts_on(block):
            if isinstance(verdict, Elsewhere):
                text = (ROOT / verdict.test).read_text()
                assert Path(block.page).name in text or "README*.md" in text, (
                    f"{verdict.test} does not read {block.page}"
                )
            elif isinstance(verdict, Not):
                assert not verdict.like or (ROOT / verdict.like).exists(), verdict.like


def test_blocks_in_lists_and_commands_over_several_lines_are_found() -> None:
    text = "1. do\n\n   ```sh\n   pathcast a \\\n     b   # why\n   curl -d '{\n   }' x\n   ```\n\n```json\n{}\n```\n"
    (block,) = blocks_of("page.md", text)
    assert block.line == 3
    assert commands(block.text) == ["pathcast a \\\n  b   # why", "curl -d '{\n}' x"]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> page_files.Once:
    return page_files.once(tmp_path_factory.mktemp("pages"))


@pytest.fixture
def scene(apache_kafka: str, redis_url: str, topic_prefix: str, made_once: page_files.Once, tmp_path: Path) -> Scene:
    page_files.create_topics(apache_kafka, topic_prefix)
    return Scene(tmp_path, apache_kafka, redis_url, topic_prefix, *made_once)


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize(("block", "run"), RUN, ids=[block.name for block, _ in RUN])
def test_the_block_does_what_it_says(block: Block, run: Run, scene: Scene, request: pytest.FixtureRequest) -> None:
    if run.long:
        request.getfixturevalue("long")
    execute(block, run, scene)


@pytest.mark.slow
def test_a_line_that_fails_fails_the_block(scene: Scene) -> None:
    with pytest.raises(AssertionError, match="ended with 3"):
        execute(Block("page.md", 1, "true\nexit 3\n"), Run(), scene)
    with pytest.raises(AssertionError, match="did not say"):
        execute(Block("page.md", 1, "echo this\n"), Run(says=("that",)), scene)
    with pytest.raises(AssertionError, match="ended with 1"):
        execute(Block("page.md", 1, "false\n"), Run(ready={"false": "never"}), scene)

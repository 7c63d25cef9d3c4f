"""The commands that the pages of this project show: every block marked `sh`, with its page and line. Tests import this;
it tests nothing itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SHELLS = ("sh", "bash", "shell", "console")
# Indented blocks count, too, as those of a list are.
BLOCK = re.compile(r"^( *)```([\w-]+)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)

_WITHOUT_REMARK = re.compile(r"\s#\s.*$")


class Block(NamedTuple):
    page: str  # from the root of the repository
    line: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def first(self) -> str:
        return self.text.partition("\n")[0]


def pages() -> list[str]:
    """Every page but those of tests' data and of what is installed here."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return sorted(
        path.as_posix()
        for path in found
        if not any(part.startswith(".") or part == "node_modules" for part in path.parts[:-1])
    )


def blocks_of(page: str, text: str) -> list[Block]:
    found = []
    for match in BLOCK.finditer(text):
        if match[2] in SHELLS:
            body = "".join(line.removeprefix(match[1]) for line in match[3].splitlines(keepends=True))
            found.append(Block(page, text.count("\n", 0, match.start()) + 1, body))
    return found


def all_blocks() -> list[Block]:
    return [block for page in pages() for block in blocks_of(page, (ROOT / page).read_text(encoding="utf-8"))]


def commands(text: str) -> list[str]:
    """A block's commands: lines, with those joined that a backslash or an open quote continues."""
    found: list[str] = []
    for line in text.splitlines():
        if found and (found[-1].endswith("\\") or _WITHOUT_REMARK.sub("", found[-1]).count("'") % 2):
            found[-1] += f"\n{line}"
        elif line.strip() and not line.startswith("#"):
            found.append(line)
    return found

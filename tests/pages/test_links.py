"""Every link of every page leads to a file that there is, and, where it names a heading, to a heading of that page."""

from __future__ import annotations

import re
from functools import cache
from posixpath import dirname, join, normpath

import pytest
from page_blocks import ROOT, pages

FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z]+:")  # https:, mailto:


def links(text: str) -> list[str]:
    """The targets of links in this project; those in code are examples."""
    return [target for target in LINK.findall(CODE.sub("", FENCED.sub("", text))) if not ELSEWHERE.match(target)]


def anchor(heading: str) -> str:
    """As code hosts make it: lower case, without punctuation, a hyphen for each space."""
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
    return re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")


@cache
def anchors(page: str) -> frozenset[str]:
    return frozenset(map(anchor, HEADING.findall(FENCED.sub("", (ROOT / page).read_text(encoding="utf-8")))))


def wrong(page: str, text: str) -> list[str]:
    """Returns the links of a page's text that lead nowhere."""
    found = []
    for target in links(text):
        path, _, heading = target.partition("#")
        full = normpath(join(dirname(page), path)) if path else page
        if not (ROOT / full).exists():
            found.append(f"{target}: there is no {full}")
        elif heading and full.endswith(".md") and heading not in anchors(full):
            found.append(f"{target}: {full} has no such heading")
    return found


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    assert not wrong(page, (ROOT / page).read_text(encoding="utf-8"))


def test_a_link_that_leads_nowhere_is_found() -> None:
    text = "[a](stream/nothing.py), [b](README.md#no-such-heading), [c](#nor-this), [d](LICENSE), `[e](in/code)`\n"
    assert [one.partition(":")[0] for one in wrong("README.md", text)] == [
        "stream/nothing.py",
        "README.md#no-such-heading",
        "#nor-this",
    ]
    assert anchor("What `pathcast verify` says, and *why*") == "what-pathcast-verify-says-and-why"

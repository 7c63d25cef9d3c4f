"""Numbers with their nouns."""

from __future__ import annotations

import pytest

from stream.config.wording import counted


@pytest.mark.parametrize(("number", "said"), [(0, "0 days"), (1, "1 day"), (2, "2 days"), (6724, "6,724 days")])
def test_one_is_singular_and_all_other_numbers_are_plural(number: int, said: str) -> None:
    assert counted(number, "day") == said


def test_a_plural_that_is_not_formed_by_s_is_given() -> None:
    assert (counted(1, "entity", "entities"), counted(0, "entity", "entities")) == ("1 entity", "0 entities")

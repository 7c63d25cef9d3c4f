"""What the page asks about the passages of the chosen entity, and what it draws when there is no answer."""

from __future__ import annotations

from typing import Any

from node_page import run

MODULE = "state/passages.js"
GIVEN = '{ version: "v", passages: [[1, [[0, 30, -97], [60, 30.01, -97]]]] }'


def asked(*steps: tuple[int, int, str]) -> Any:
    """How many requests there were, and how many ways are there, after each step: the time of the entity's newest ping,
    when the page hears of it, both in ms, and the server's answer."""
    return run(
        f"""await (async () => {{
            const answers = {{
                given: () => ({{ ok: true, status: 200, json: async () => ({GIVEN}) }}),
                unknown: () => ({{ ok: false, status: 404 }}),
                busy: () => ({{ ok: false, status: 503 }}),
                away: () => {{ throw new TypeError("no connection"); }},
            }};
            let requests = 0;
            const found = new passages.Passages(), after = [];
            for (const [ts, now, answer] of {[list(step) for step in steps]}) {{
                globalThis.fetch = async () => {{ requests += 1; return answers[answer](); }};
                await found.ask({{ id: "a", ts, passages: 3 }}, now);
                after.push([requests, found.ways.length, found.version]);
            }}
            return after;
        }})()""",
        MODULE,
    )


def test_each_ping_is_asked_about_once_and_not_more_often_than_each_second() -> None:
    after = asked((1, 0, "given"), (1, 5_000, "given"), (2, 5_100, "given"), (3, 5_200, "given"), (3, 6_200, "given"))
    assert after == [[1, 1, "v"], [1, 1, "v"], [2, 1, "v"], [2, 1, "v"], [3, 1, "v"]]


def test_what_was_not_answered_is_asked_again_and_the_ways_of_an_earlier_ping_go() -> None:
    for failure in ("unknown", "busy", "away"):
        after = asked((1, 0, "given"), (2, 2_000, failure), (2, 2_500, "given"), (2, 3_000, "given"))
        assert after == [[1, 1, "v"], [2, 0, None], [2, 0, None], [3, 1, "v"]], failure


def test_a_failure_of_an_entity_that_is_chosen_no_more_changes_nothing() -> None:
    """Its answer comes after that of the next one."""
    ways, version = run(
        f"""await (async () => {{
            const found = new passages.Passages();
            let fail;
            globalThis.fetch = () => new Promise((_, reject) => {{ fail = reject; }});
            const former = found.ask({{ id: "a", ts: 1, passages: 3 }}, 0);
            found.clear();
            globalThis.fetch = async () => ({{ ok: true, status: 200, json: async () => ({GIVEN}) }});
            await found.ask({{ id: "b", ts: 1, passages: 3 }}, 10);
            fail(new TypeError("no connection"));
            await former;
            return [found.ways.length, found.version];
        }})()""",
        MODULE,
    )
    assert (ways, version) == (1, "v")

"""Tickets: each opens one stream, once, for a short time."""

from __future__ import annotations

from stream.api.http.tickets import VALID_S, Tickets


def test_a_ticket_is_good_once_and_for_a_short_time() -> None:
    tickets = Tickets()
    first, second = tickets.give(0.0), tickets.give(0.0)
    assert first != second
    assert tickets.take(first, VALID_S)
    assert not tickets.take(first, VALID_S)
    assert not tickets.take(second, VALID_S + 0.001)
    assert not tickets.take(second, 0.0), "who came too late has used it up"
    assert not tickets.take("", 0.0)
    assert not tickets.take("é\udcff", 0.0)


def test_a_ticket_is_longer_than_anybody_guesses_and_fits_into_an_address() -> None:
    ticket = Tickets().give(0.0)
    assert len(ticket) == 43
    assert ticket.replace("-", "").replace("_", "").isalnum()


def test_those_that_nobody_uses_do_not_fill_the_memory() -> None:
    tickets = Tickets(most=3)
    given = [tickets.give(0.0) for _ in range(5)]
    assert len(tickets) == 3
    assert [tickets.take(one, 0.0) for one in given] == [False, False, True, True, True]

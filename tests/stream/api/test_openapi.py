"""The OpenAPI document: it is valid, it is the committed one, and what is answered fits it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from stream.api.openapi import as_json, as_yaml, document
from stream.api.operations import OPERATIONS
from stream.http.problems import KINDS

COMMITTED = Path(__file__).parents[3] / "deploy" / "openapi.yaml"


def test_the_committed_document_is_the_present_one() -> None:
    assert COMMITTED.read_text() == as_yaml(), "python -m stream.api.openapi deploy/openapi.yaml"
    assert yaml.safe_load(COMMITTED.read_text()) == json.loads(as_json())


def test_every_reference_leads_somewhere() -> None:
    """msgspec names types; a type that is defined twice under one name would be missing, or wrong."""
    schemas = document()["components"]["schemas"]

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if "$ref" in value else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    used = {one.removeprefix("#/components/schemas/") for one in references(document())}
    assert used <= schemas.keys()
    assert schemas.keys() - used <= {"WatchMessage"}, "which a client sends through a socket"


def test_every_status_of_a_problem_is_in_the_document() -> None:
    documented = {
        int(status) for path in document()["paths"].values() for one in path.values() for status in one["responses"]
    }
    assert documented >= {kind.status for kind in KINDS.values()} - {405}


def test_each_operation_asks_for_a_token_unless_it_says_otherwise() -> None:
    for one in OPERATIONS:
        described = document()["paths"][one.path][one.method.lower()]
        ticket = [{"ticket": []}] if one.name in ("streamEvents", "openSocket") else []
        assert described["security"] == ([{}] if one.is_open else [{"token": []}, *ticket])
        assert ("401" in described["responses"]) is not one.is_open
        assert described["operationId"] == one.name


def test_who_may_ask_for_changes_alone_may_be_told_that_there_are_none() -> None:
    """The answer 304 was given and not documented."""
    for one in OPERATIONS:
        responses = document()["paths"][one.path][one.method.lower()]["responses"]
        assert ("304" in responses) is ("If-None-Match" in one.headers), one.name
    assert "304" in document()["paths"]["/gtfs-rt/trip-updates.pb"]["get"]["responses"]

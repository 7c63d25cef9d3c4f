"""deploy/asyncapi.yaml is valid for AsyncAPI's own parser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncapi_parser
import pytest
import yaml
from missing_servers import skip_unless_required

from stream.contracts.catalog import RECORDS
from stream.contracts.files import ASYNCAPI, DEFAULT

ERROR = 0  # a severity of the parser


@pytest.fixture(scope="module")
def parsed(say: Callable[[str], None]) -> Callable[[Path], dict[str, Any]]:
    def ask(document: Path) -> dict[str, Any]:
        try:
            return asyncapi_parser.parsed(document, say)
        except asyncapi_parser.Unavailable as reason:
            skip_unless_required(reason)

    return ask


def test_the_document_is_valid_and_has_all_topics_and_messages(parsed: Callable[[Path], dict[str, Any]]) -> None:
    found = parsed(DEFAULT / ASYNCAPI)
    assert found["valid"], found["diagnostics"]
    assert not [one for one in found["diagnostics"] if one["severity"] == ERROR]
    assert sorted(found["channels"]) == sorted({one.topic for one in RECORDS})
    assert set(found["messages"]) == {one.name for one in RECORDS}


def test_a_document_that_is_wrong_is_refused(parsed: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    document = yaml.safe_load((DEFAULT / ASYNCAPI).read_text())
    document["operations"]["send_forecasts"]["channel"]["$ref"] = "#/channels/nothing"
    document["operations"]["send_scores"]["action"] = "shout"
    spoilt = tmp_path / "asyncapi.yaml"
    spoilt.write_text(yaml.dump(document))
    found = parsed(spoilt)
    assert not found["valid"]
    assert {one["path"] for one in found["diagnostics"] if one["severity"] == ERROR} >= {
        "operations.send_scores.action"
    }

"""Where a worker serves its metrics, and which tokens open the door."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from stream.config.http_access import TOKEN, Address, token
from stream.worker.cli import _doors

SECRET = "a token of some length"


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("9464", ("127.0.0.1", 9464), "127.0.0.1:9464"),
        ("0.0.0.0:9464", ("0.0.0.0", 9464), "0.0.0.0:9464"),
        ("pod-1.local:0", ("pod-1.local", 0), "pod-1.local:0"),
        ("[::1]:9464", ("::1", 9464), "[::1]:9464"),
    ],
)
def test_a_bare_port_is_on_loopback_and_a_host_is_taken_as_told(
    text: str, address: tuple[str, int], shown: str
) -> None:
    assert Address.parse(text) == address
    assert str(Address.parse(text)) == shown


@pytest.mark.parametrize(
    "text", ["", ":9464", "host", "host:", "::1", "1:2:3", "http://h:1", "h:65536", "h:-1", "h: 1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("pod", False)]
)
def test_loopback_is_known_from_the_open_network(host: str, loopback: bool) -> None:
    assert Address(host, 1).loopback is loopback


def test_each_worker_of_a_crew_has_a_port_of_its_own() -> None:
    assert _doors("9464", 3) == [("127.0.0.1", 9464), ("127.0.0.1", 9465), ("127.0.0.1", 9466)]
    assert _doors("h:0", 2) == [("h", 0), ("h", 0)], "any free port is another one each time"
    assert _doors("", 2) == [None, None]
    assert _doors("65534", 2)[1] == ("127.0.0.1", 65535)


def test_a_crew_whose_ports_run_out_is_bad_usage() -> None:
    with pytest.raises(typer.BadParameter, match="no 3 ports from 65534 on"):
        _doors("65534", 3)


def test_without_a_token_none_is_asked_for() -> None:
    assert token({}) is None


def test_a_token_may_come_by_a_file_and_ends_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    assert token({f"{TOKEN}_FILE": str(tmp_path / "token")}) == SECRET
    assert token({TOKEN: SECRET}) == SECRET


@pytest.mark.parametrize("weak", ["", "short", "fifteen letters", "a token with a\x00zero", "ein Schlüssel aus Silber"])
def test_a_token_that_is_empty_weak_or_no_header_is_refused_and_never_shown(weak: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(weak)
    for environment in ({TOKEN: weak}, {f"{TOKEN}_FILE": str(tmp_path / "token")}):
        with pytest.raises(ValueError, match="16 or more printable ASCII") as refused:
            token(environment)
        assert not weak or weak not in str(refused.value)


def test_a_token_file_that_is_not_there_opens_no_door(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        token({f"{TOKEN}_FILE": str(tmp_path / "none")})


def test_two_tokens_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="which one"):
        token({TOKEN: SECRET, f"{TOKEN}_FILE": "/run/secrets/token"})

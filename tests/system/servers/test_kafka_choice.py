"""Which broker the fixtures take: the order, the reasons printed, and what CI refuses."""

from __future__ import annotations

from pathlib import Path

import kafka_server
import pytest


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with neither Docker nor Java."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("JAVA_HOME", "PATHCAST_TEST_KAFKA", "PATHCAST_REQUIRE_KAFKA"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("bare")
def test_a_bare_machine_gets_the_embedded_broker_and_the_reasons() -> None:
    said: list[str] = []
    with kafka_server.running(said.append) as broker:
        assert not broker.apache
        assert said == [
            "kafka: not given: PATHCAST_TEST_KAFKA is not set",
            "kafka: not docker: no docker command on PATH",
            "kafka: not apache: no java on PATH and no JAVA_HOME",
            f"kafka: {broker.what} at {broker.bootstrap}",
        ]
        monkey = pytest.MonkeyPatch()
        monkey.setenv("PATHCAST_TEST_KAFKA", broker.bootstrap)
        try:
            with kafka_server.running(said.append) as given:
                assert given.bootstrap == broker.bootstrap, "what somebody runs already comes first"
        finally:
            monkey.undo()


@pytest.mark.usefixtures("bare")
def test_ci_refuses_a_broker_that_is_not_apache_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATHCAST_REQUIRE_KAFKA", "apache")
    with pytest.raises(kafka_server.Unavailable, match="only this was found: noida-db"):
        kafka_server.running(lambda _: None).__enter__()


@pytest.mark.usefixtures("bare")
def test_an_address_that_does_not_answer_falls_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATHCAST_TEST_KAFKA", "127.0.0.1:1")
    said: list[str] = []
    with kafka_server.running(said.append):
        assert said[0] == "kafka: not given: PATHCAST_TEST_KAFKA=127.0.0.1:1 does not answer"


def test_java_that_is_too_old_is_no_choice(bare: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    said: list[str] = []
    with kafka_server.running(said.append):
        assert said[2] == f'kafka: not apache: {java} is not Java 17 or newer: openjdk version "1.8.0_392"'


def test_the_container_gets_the_same_settings_under_the_names_of_its_image() -> None:
    settings = kafka_server._docker_settings(1234)
    assert settings["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://127.0.0.1:1234"
    assert settings["KAFKA_TRANSACTION_STATE_LOG_MIN_ISR"] == "1"
    assert all(name.isupper() and "." not in name for name in settings)

"""The Kafka that tests of this folder may kill; one serves them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mortal_kafka
import pytest


@pytest.fixture(scope="session")
def the_mortal_kafka(say: Callable[[str], None]) -> Iterator[mortal_kafka.MortalKafka]:
    with mortal_kafka.running(say) as found:
        yield found


@pytest.fixture
def mortal(the_mortal_kafka: mortal_kafka.MortalKafka) -> mortal_kafka.MortalKafka:
    """An Apache Kafka that the test may kill; it runs when the test begins."""
    the_mortal_kafka.ensure_up()
    return the_mortal_kafka

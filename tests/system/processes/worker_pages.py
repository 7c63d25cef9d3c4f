"""What a worker process serves over HTTP, as the tests ask for it. Tests import this; it tests nothing itself."""

from __future__ import annotations

import json
import re
from collections import Counter
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from prometheus_client.parser import text_string_to_metric_families as parsed
from worker_process import READY_S, Worker

ANSWER_S = 30.0


def base_of(worker: Worker) -> str:
    """The URL before the path, of a worker with `metrics=0`: its log says which port it got."""
    worker.wait_for("metrics: http://", READY_S)
    found = re.search(r"metrics: (http://127\.0\.0\.1:\d+)/metrics", worker.log())
    assert found, worker.log()
    return found[1]


def ask(url: str, *, token: str | None = None, method: str = "GET") -> tuple[int, str]:
    """The status and the body."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with urlopen(Request(url, headers=headers, method=method), timeout=ANSWER_S) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def readiness(base: str) -> tuple[int, list[str]]:
    """The status of /readyz and its reasons."""
    status, body = ask(f"{base}/readyz")
    return status, json.loads(body)["reasons"]


class Scrape:
    """The samples of one GET of /metrics."""

    def __init__(self, base: str, *, token: str | None = None) -> None:
        status, text = ask(f"{base}/metrics", token=token)
        assert status == 200
        self._samples = [sample for family in parsed(text) for sample in family.samples]

    def sum(self, name: str) -> float:
        """The sum over all partitions, and over all other labels."""
        return sum(sample.value for sample in self._samples if sample.name == f"pathcast_{name}")

    def values(self, name: str) -> set[float]:
        return {sample.value for sample in self._samples if sample.name == f"pathcast_{name}"}

    def by_partition(self, name: str) -> dict[int, float]:
        found = [sample for sample in self._samples if sample.name == f"pathcast_{name}"]
        return {int(sample.labels["partition"]): sample.value for sample in found}

    def labels(self, name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in self._samples if sample.name == f"pathcast_{name}"}

    def outcomes(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for sample in self._samples:
            if sample.name == "pathcast_records_total":
                found[sample.labels["outcome"]] += int(sample.value)
        return found

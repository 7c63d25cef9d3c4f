"""Formats the lines of a worker's log: as text for people, or as JSON for programs. Times are UTC in both.

2026-11-29T13:04:05.192Z INFO ready: partitions 0, 1
{"time":"2026-11-29T13:04:05.192Z","level":"info","logger":"stream.delivery.delivery","message":"ready: ...","pid":7}
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from stream.worker.process_pool import prefix_lines


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


def formatter(form: LogFormat, worker: int | None) -> logging.Formatter:
    """Returns the formatter. `worker` is the number of this process among several that one command started."""
    return _Json(worker) if form is LogFormat.JSON else _Text("%(asctime)s %(levelname)s %(message)s")


def relay(form: LogFormat, worker: int, line: str) -> str:
    """Returns a line of one of several workers as their parent shows it. In JSON, each worker adds its own number."""
    if form is LogFormat.TEXT:
        return prefix_lines(worker, line)
    return line if _is_object(line) else _encode({"time": _utc(datetime.now(UTC)), **_plain(line), "worker": worker})


class _Text(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return _utc(datetime.fromtimestamp(record.created, UTC))


class _Json(logging.Formatter):
    """Formats each record as one JSON object, whatever its message contains."""

    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": _utc(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            **self._worker,
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return _encode(fields)


def _utc(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"


def _plain(line: str) -> dict[str, str]:
    """Returns the fields of a line that no logger wrote: a warning of the interpreter, or of a library in C."""
    return {"level": "warning", "logger": "stderr", "message": line}


def _is_object(line: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except msgspec.DecodeError:
        return False


def _encode(fields: dict[str, Any]) -> str:
    # An unpaired surrogate, as in a file name that is not UTF-8, cannot be encoded: it is shown escaped.
    texts = {
        key: item.encode("utf-8", "backslashreplace").decode() if isinstance(item, str) else item
        for key, item in fields.items()
    }
    return msgspec.json.encode(texts).decode()

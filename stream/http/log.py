"""The log of our HTTP servers, without what clients sent.

aiohttp logs a request that it cannot parse as an error, with the bytes at fault; and in a URL or a header of somebody's
tracker that may be where they are. Clients are answered 400, and their mistakes are none of ours.
"""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError


class _NotOfClients(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


_NOT_OF_CLIENTS = _NotOfClients()


def http_logger() -> logging.Logger:
    """Returns the logger to give to a server of aiohttp."""
    logger = logging.getLogger("stream.http")
    logger.addFilter(_NOT_OF_CLIENTS)  # one that it has already is not added again
    return logger

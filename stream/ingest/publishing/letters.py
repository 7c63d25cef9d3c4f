"""How many dead letters a message becomes: one for each code, whatever the number of its rejects.

Each letter holds the whole message. A message of a megabyte with thousands of bad positions would otherwise become
gigabytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from stream.adapters.live.parsed import Parsed, Skip
from stream.wire import Ping, Reject


def published(parsed: Sequence[Parsed]) -> Iterator[Ping | Reject]:
    """Yields the pings, and the first reject of each code, which says how many more there are."""
    counts = Counter(one.code for one in parsed if isinstance(one, Reject))
    seen: set[str] = set()
    for one in parsed:
        if isinstance(one, Skip) or (isinstance(one, Reject) and one.code in seen):
            continue
        if isinstance(one, Reject):
            seen.add(one.code)
            more = counts[one.code] - 1
            yield one._replace(message=f"{one.message}; and {more} more {one.code} in the message") if more else one
        else:
            yield one

"""The errors from which an error was raised."""

from __future__ import annotations


def list_reasons(error: BaseException) -> list[BaseException]:
    """Returns the error, the one that it was raised from, the reason of that one, and so on. An error may be the reason
    of its own reason; it is in the list once."""
    reasons = [error]
    while (below := reasons[-1].__cause__ or reasons[-1].__context__) is not None and below not in reasons:
        reasons.append(below)
    return reasons

"""The types of ships that AIS knows, as categories (ITU-R M.1371-5, table 53)."""

from __future__ import annotations

from typing import Final

_BY_TYPE: Final = {
    30: "fishing",
    31: "towing",
    32: "towing",
    33: "dredging",
    34: "diving",
    35: "military",
    36: "sailing",
    37: "pleasure_craft",
    50: "pilot",
    51: "search_and_rescue",
    52: "tug",
    53: "port_tender",
    54: "anti_pollution",
    55: "law_enforcement",
    58: "medical",
}
# By the first of two digits; the second is about the cargo.
_BY_TEN: Final = {2: "wing_in_ground", 4: "high_speed_craft", 6: "passenger", 7: "cargo", 8: "tanker", 9: "other"}


def category(ship_type: int) -> str | None:
    """Returns the category of a type; None for 0 (not available) and for types that the table keeps for later use."""
    return _BY_TYPE.get(ship_type) or _BY_TEN.get(ship_type // 10)

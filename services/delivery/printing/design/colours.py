"""A campaign's own colour, always the same."""

from __future__ import annotations

import hashlib

TINTS = (
    "#8c1d40",
    "#1f4e79",
    "#2f5d3a",
    "#5b2a86",
    "#7a3b12",
    "#0f5c63",
    "#7d1f5f",
    "#34406b",
)  # white reads well on all


def tint(campaign_id: str) -> str:
    return TINTS[hashlib.sha256(campaign_id.encode()).digest()[0] % len(TINTS)]

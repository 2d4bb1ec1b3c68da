"""The colour of a campaign, which is always the same."""

from __future__ import annotations

import hashlib

# White text is legible on all of them.
TINTS = (
    "#8c1d40",
    "#1f4e79",
    "#2f5d3a",
    "#5b2a86",
    "#7a3b12",
    "#0f5c63",
    "#7d1f5f",
    "#34406b",
)


def tint(campaign_id: str) -> str:
    return TINTS[hashlib.sha256(campaign_id.encode()).digest()[0] % len(TINTS)]

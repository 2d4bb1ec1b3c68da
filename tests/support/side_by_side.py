"""Runs of the tests side by side (`make test`): which tests stay together, in one of them."""

from __future__ import annotations

from typing_extensions import override
from xdist.scheduler.loadscope import LoadScopeScheduling

TOGETHER = (
    "tests/acceptance/",
    "tests/protocol/laws/",
)  # share one pipeline; wait together for sessions to end


class Together(LoadScopeScheduling):  # type: ignore[misc]  # its base has no types
    """Each file, and each folder whose tests share what is costly."""

    @override
    def _split_scope(self, nodeid: str) -> str:
        folder = next((it for it in TOGETHER if nodeid.startswith(it)), None)
        return folder or nodeid.partition("::")[0]

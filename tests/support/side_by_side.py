"""Which tests stay together in one of the two runs of `make test`."""

from __future__ import annotations

from typing_extensions import override
from xdist.scheduler.loadscope import LoadScopeScheduling

# The first share one pipeline, the second wait together for sessions to end.
TOGETHER = ("tests/acceptance/", "tests/protocol/laws/")


class Together(LoadScopeScheduling):  # type: ignore[misc]  # its base has no types
    """Keeps each file together, and each folder whose tests share what is costly."""

    @override
    def _split_scope(self, nodeid: str) -> str:
        folder = next((path for path in TOGETHER if nodeid.startswith(path)), None)
        return folder or nodeid.partition("::")[0]

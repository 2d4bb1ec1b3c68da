"""What a run of the command `stubline` leaves for its caller."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple


class CliOutput(NamedTuple):
    """The exit code and both streams of one run."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


StublineCommand = Callable[..., CliOutput]

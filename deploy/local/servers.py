"""Which servers to use: those that the environment names, or the local stack of `make up`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from deploy.local.process import StackError

KAFKA = "KAFKA_BOOTSTRAP_SERVERS"
DATABASE = "DATABASE_URL"
FILES = "STUBLINE_DELIVERY_FILES_URL"
PLATES = "STUBLINE_DELIVERY_PLATES_FOLDER"


def named_by_environment() -> bool:
    """Whether the environment names the servers: both or none, never one of them."""
    named = [name for name in (KAFKA, DATABASE) if os.environ.get(name)]
    if len(named) == 1:
        other = DATABASE if named == [KAFKA] else KAFKA
        raise StackError(
            f"{named[0]} is set and {other} is not; set both to use your own servers, or none"
        )
    return bool(named)


def environment(state: Path) -> Mapping[str, str]:
    """Return the caller's environment with the addresses of the servers."""
    if named_by_environment():
        return os.environ
    try:
        lines = (state / "env").read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise StackError(f"no local stack runs in {state}; start one: make up") from None
    return {**dict(line.split("=", 1) for line in lines), **os.environ}

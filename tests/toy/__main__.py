"""`python -m tests.toy first|second`: one member of a stage's group, until SIGTERM."""

from __future__ import annotations

import os
import sys
from functools import partial

from pydantic_settings import SettingsConfigDict

from services.runtime import process
from services.runtime.settings import LaneSettings, load
from tests.toy.sabotage import Saboteur, Switch
from tests.toy.service import first, second
from tests.toy.store import PostgresStore


class ToySettings(LaneSettings):
    model_config = SettingsConfigDict(env_prefix="STUBLINE_TOY_", frozen=True)


def main() -> int:
    ticks = os.environ.get("TOY_TICKS") == "1"
    switches = Switch.read(os.environ.get("TOY_AT", ""))
    stage = first(PostgresStore, ticks=ticks) if sys.argv[1] == "first" else second(PostgresStore)
    return process.run(stage, load(ToySettings), partial(Saboteur, switches=switches))


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.protocol.toy first|second`: one member of a stage's group, until SIGTERM."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from functools import partial

from pydantic_settings import SettingsConfigDict

from services.runtime import process
from services.runtime.settings import LaneSettings, load
from tests.protocol.toy.mutate import disable_rule
from tests.protocol.toy.sabotage import Saboteur, Switches
from tests.protocol.toy.service import STAGES, Release
from tests.protocol.toy.store import PostgresStore


class ToySettings(LaneSettings):
    model_config = SettingsConfigDict(env_prefix="STUBLINE_TOY_", frozen=True)


def main() -> int:
    faulthandler.register(signal.SIGUSR1)  # for a test that waited in vain: print the stack
    setting = os.environ.get
    disable_rule(setting("TOY_MUTATION", ""))
    release = Release(
        int(setting("TOY_RELEASE", "1")), setting("TOY_FIXED") == "1", setting("TOY_TICKS") == "1"
    )
    stage = STAGES[sys.argv[1]](PostgresStore, release)
    return process.run(
        stage, load(ToySettings), partial(Saboteur, switches=Switches(setting("TOY_AT", "")))
    )


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.support.sabotaged issuer`: a service as it is, with a telemetry that acts at the points SABOTAGE names."""

from __future__ import annotations

import os
import sys
from functools import partial
from importlib import import_module

from services.runtime import process
from tests.toy.sabotage import Saboteur, Switches


def main() -> int:
    switches = Switches(os.environ["SABOTAGE"])
    process.run = partial(process.run, telemetry=partial(Saboteur, switches=switches))
    return int(import_module(f"services.{sys.argv[1]}.__main__").main())


if __name__ == "__main__":
    raise SystemExit(main())

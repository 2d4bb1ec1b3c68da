"""`python -m services.ingest`: one member of the group, until SIGTERM. The door is `python -m services.ingest.door`."""

from __future__ import annotations

import sys

from services.ingest.settings import Settings
from services.ingest.worker import SERVICE
from services.runtime import process
from services.runtime.settings import load


def main() -> int:
    return process.run(SERVICE, load(Settings))


if __name__ == "__main__":
    sys.exit(main())

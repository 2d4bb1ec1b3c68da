"""`python -m services.issuer`: one member of the group, until SIGTERM."""

import sys

from services.issuer import worker
from services.issuer.settings import IssuerSettings
from services.runtime import process
from services.runtime.settings import load


def main() -> int:
    settings = load(IssuerSettings)
    return process.run(worker.service(settings.tick_orders_max), settings)


if __name__ == "__main__":
    sys.exit(main())

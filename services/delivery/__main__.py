"""`python -m services.delivery`: the lane, which files jobs. Senders are processes of their own
(`services.delivery.sender`).
"""

from __future__ import annotations

import sys

from services.delivery import metrics  # noqa: F401 - declares what handlers count
from services.delivery.settings import DeliverySettings
from services.delivery.worker import service
from services.runtime import process
from services.runtime.settings import load


def main() -> int:
    settings = load(DeliverySettings)
    return process.run(service(settings), settings)


if __name__ == "__main__":
    sys.exit(main())

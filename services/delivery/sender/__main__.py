"""`python -m services.delivery.sender`: a sender, until SIGTERM. Run as many as needed."""

from __future__ import annotations

import sys

from services.delivery.rendering import SharedRenderer
from services.delivery.sender.process import run
from services.delivery.settings import DeliverySettings
from services.runtime.settings import load

if __name__ == "__main__":
    sys.exit(run(load(DeliverySettings), SharedRenderer))

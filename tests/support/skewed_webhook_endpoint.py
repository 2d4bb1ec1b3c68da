"""`python -m tests.support.skewed_webhook_endpoint SECONDS`: the webhook endpoint on a machine
whose clock is so far ahead.
"""

from __future__ import annotations

import sys
import time

from services.ingest.webhooks.__main__ import main

if __name__ == "__main__":
    ahead_s = float(sys.argv[1])
    sys.exit(main(wall=lambda: time.time() + ahead_s))

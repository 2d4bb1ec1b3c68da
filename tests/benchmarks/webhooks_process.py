"""The webhook endpoint with the certificates of test vendors in its cache, so that a benchmark
fetches none.
"""

from __future__ import annotations

import sys

from services.ingest.webhooks import __main__ as endpoint
from services.ingest.webhooks.certificates import CertificateCache
from tests.support.vendors import VENDORS

if __name__ == "__main__":
    known = {url: text for vendor in VENDORS.values() for url, text in vendor.certificates.items()}
    sys.exit(endpoint.main(CertificateCache(known=known)))

"""The door as it is, with the certificates of test vendors already fetched: their hosts are not to
be asked by a bench.
"""

from __future__ import annotations

import sys

from services.ingest.webhooks import __main__ as door
from services.ingest.webhooks.certificates import CertificateCache
from tests.support.vendors import VENDORS

if __name__ == "__main__":
    known = {url: text for vendor in VENDORS.values() for url, text in vendor.certificates.items()}
    sys.exit(door.main(CertificateCache(known=known)))

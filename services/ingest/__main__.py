"""`python -m services.ingest`: one member of the worker group, until SIGTERM. The webhook endpoint
is `python -m services.ingest.webhooks`.

With the sources file, the member that owns the timer lane also polls vendors for what their
webhooks lost.
"""

from __future__ import annotations

import sys

from services.ingest.config import sources_file
from services.ingest.poller.scheduler import PollScheduler
from services.ingest.retention import purging
from services.ingest.settings import IngestSettings
from services.ingest.worker import GROUP, service
from services.runtime import process
from services.runtime.observability import logs
from services.runtime.settings import ConfigurationError, load, refuse_start


def main() -> int:
    settings = load(IngestSettings)
    if settings.sources_file is None:
        return process.run(service(purging(settings.kept_days)), settings)
    try:
        configs = sources_file.read(settings.sources_file)
    except ConfigurationError as error:
        refuse_start(error)
    logs.configure(GROUP, level=settings.log_level)
    return process.run(service(purging(settings.kept_days, PollScheduler(configs).tick)), settings)


if __name__ == "__main__":
    sys.exit(main())

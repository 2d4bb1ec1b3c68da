"""`python -m services.ingest`: one member of the group, until SIGTERM. The door is
`python -m services.ingest.webhooks`.

With the sources file it also asks vendors for what their webhooks lost: the member that holds the
timer does.
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
from services.runtime.settings import EX_CONFIG, ConfigurationError, load
from services.runtime.text import one_line


def main() -> int:
    settings = load(IngestSettings)
    if settings.sources_file is None:
        return process.run(service(purging(settings.kept_days)), settings)
    try:
        configs = sources_file.read(settings.sources_file)
    except ConfigurationError as error:
        print(one_line(f"configuration: {error}"), file=sys.stderr)  # noqa: T201 - before anything runs, and for a person
        return EX_CONFIG
    logs.configure(GROUP, level=settings.log_level)
    return process.run(service(purging(settings.kept_days, PollScheduler(configs).tick)), settings)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m services.approval`: one member of the group, until SIGTERM."""

import sys

from services.approval import settings, worker
from services.runtime import process
from services.runtime.settings import ConfigurationError, load, refuse_start
from services.runtime.text import one_line


def main() -> int:
    loaded = load(settings.ApprovalSettings)
    try:
        policies = settings.policies(loaded)
    except ConfigurationError as error:
        refuse_start(error)
    for warning in policies.warnings:
        print(one_line(f"configuration: {warning}"), file=sys.stderr)  # noqa: T201 - for a person, before the logs are set up
    return process.run(worker.service(policies), loaded)


if __name__ == "__main__":
    sys.exit(main())

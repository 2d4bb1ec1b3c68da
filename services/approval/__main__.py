"""`python -m services.approval`: one member of the group, until SIGTERM."""

import sys

from services.approval import settings, worker
from services.runtime import process
from services.runtime.settings import EX_CONFIG, ConfigurationError, load
from services.runtime.text import one_line


def main() -> int:
    loaded = load(settings.ApprovalSettings)
    try:
        policies = settings.policies(loaded)
    except ConfigurationError as error:
        print(one_line(f"configuration: {error}"), file=sys.stderr)  # noqa: T201 - for a person, before the logs are set up
        return EX_CONFIG
    for warning in policies.warnings:
        print(one_line(f"configuration: {warning}"), file=sys.stderr)  # noqa: T201 - as above
    return process.run(worker.service(policies), loaded)


if __name__ == "__main__":
    sys.exit(main())

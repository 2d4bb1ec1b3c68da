"""One pipeline for all acceptance tests: real servers, the door, four workers, two senders."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.programs import services
from deploy.local.stack import Stack
from tests.support.stubline import SECRET, Stubline, connected, write_files


@pytest.fixture(scope="session")
def pipeline_stack() -> Iterator[Stack]:
    """Servers of their own: these tests own every topic on them."""
    with Stack.temporary() as stack:
        yield stack


@pytest.fixture(scope="session")
def stubline(pipeline_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stubline]:
    folder = tmp_path_factory.mktemp("stubline")
    files = write_files(folder)
    environment = {
        **pipeline_stack.environment,
        "TEST_SHOP_SECRET": SECRET,
        "STUBLINE_APPROVAL_POLICY_FILE": str(files["policy"]),
        # A sender that was killed is missed after seconds, not a minute.
        "STUBLINE_DELIVERY_LEASE_MS": "6000",
        "STUBLINE_DELIVERY_MAIL_DEADLINE_MS": "4000",
        "STUBLINE_DELIVERY_SMTP_TIMEOUT_MS": "2000",
        "STUBLINE_DELIVERY_RETRY_MIN_MS": "200",
    }
    for command in (["migrate"], ["campaigns", "apply", str(files["campaigns"])]):
        program = str(Path(sys.executable).with_name("stubline"))
        subprocess.run([program, *command], env={**os.environ, **environment}, check=True, capture_output=True)
    with (
        services(folder, environment, files["sources"]) as running,
        connected(running, environment, pipeline_stack.smtp) as found,
    ):
        yield found

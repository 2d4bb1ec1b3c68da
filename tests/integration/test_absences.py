"""What an operator reads while a server is unavailable: one code, at /readyz and in the log, once a
minute, as JSON.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.mail import Mail
from deploy.local.stack import Stack
from schemas.topics import all_topics
from services.runtime.kafka.topics import BrokerAdmin
from tests.support.proxy import Proxy
from tests.support.webhook_endpoint import ROOT

WORKER, SENDER, ENDPOINT = (
    "services.approval",
    "services.delivery.sender",
    "services.ingest.webhooks",
)
PORTS = {
    WORKER: "STUBLINE_APPROVAL_HEALTH_PORT",
    SENDER: "STUBLINE_DELIVERY_SENDER_HEALTH_PORT",
    ENDPOINT: "STUBLINE_INGEST_WEBHOOK_HEALTH_PORT",
}
WITHIN_S = 60.0
DEAD = "127.0.0.1:1"


def eventually(what: str, holds: Callable[[], bool]) -> None:
    until = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.1)


class LoggedProcess:
    """One of our processes, with its stderr in a file."""

    def __init__(self, module: str, environment: Mapping[str, str], folder: Path) -> None:
        self.module, self._log = module, folder / f"{module}.log"
        self.began = time.monotonic()
        with self._log.open("wb") as out:
            command = [sys.executable, "-m", module]
            self.child = subprocess.Popen(
                command, env=dict(environment), cwd=ROOT, stdout=out, stderr=out
            )

    def lines(self) -> list[dict[str, Any]]:
        """Parse the log. Raises if a line is not JSON: nothing bypasses the log."""
        return [
            json.loads(line)
            for line in self._log.read_text("utf-8").splitlines(keepends=True)
            if line[-1] == "\n"
        ]

    @property
    def health(self) -> str:
        eventually(
            f"{self.module} listens", lambda: any("health_port" in line for line in self.lines())
        )
        port = next(line["health_port"] for line in self.lines() if "health_port" in line)
        return f"http://127.0.0.1:{port}"

    def why(self) -> str:
        """Return why it is not ready; empty: it is."""
        answer = httpx.get(f"{self.health}/readyz", timeout=10)
        return "" if answer.status_code == 200 else str(answer.json()["detail"])

    def until_ready(self) -> None:
        eventually(f"{self.module} is ready", lambda: self.why() == "")

    def until_unavailable(self, code: str) -> None:
        """Wait until /readyz begins with this code; the webhook endpoint adds the cause."""
        eventually(f"{self.module} reports {code}", lambda: self.why().partition(":")[0] == code)

    def until_it_tried(self, times: int) -> None:
        def tried() -> bool:
            metrics = httpx.get(f"{self.health}/metrics", timeout=10).text.splitlines()
            counts = [
                float(line.split()[-1])
                for line in metrics
                if line.startswith("stubline_service_backoffs_total")
            ]
            return sum(counts) >= times

        eventually(f"{self.module} tries {times} times", tried)

    def written(self, event: str, code: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if (line["event"], line.get("code")) == (event, code)]

    def repeats_itself_at_most_once_a_minute(self) -> None:
        counted = Counter(
            (line["component"], line.get("code") or line["event"])
            for line in self.lines()
            if line["level"] in {"warning", "error"}
        )
        assert max(counted.values(), default=0) <= 1 + (time.monotonic() - self.began) // 60, (
            counted
        )


@pytest.fixture(scope="module")
def topics(bootstrap_servers: str) -> str:
    BrokerAdmin(bootstrap_servers).repair(all_topics())
    return bootstrap_servers


@contextmanager
def running(
    folder: Path, environment: Mapping[str, str], *modules: str
) -> Iterator[list[LoggedProcess]]:
    sources = folder / "sources.toml"
    sources.write_text(
        '[sources.shop]\nkind = "woocommerce"\nsecrets = ["env:SHOP_SECRET"]\n', "utf-8"
    )
    given = {
        **os.environ,
        **dict.fromkeys(PORTS.values(), "0"),
        "STUBLINE_INGEST_WEBHOOK_PORT": "0",
        "STUBLINE_INGEST_SOURCES_FILE": str(sources),
        "SHOP_SECRET": "a-shop's-own-secret",
        "STUBLINE_DELIVERY_FILES_URL": (folder / "files").as_uri(),
        "STUBLINE_DELIVERY_PLATES_FOLDER": str(folder / "plates"),
        **environment,
    }
    with ExitStack() as stack:
        processes = [LoggedProcess(module, given, folder) for module in modules]
        for process in processes:
            stack.callback(process.child.wait, 20)
            stack.callback(process.child.kill)
        yield processes


def test_without_its_database_a_process_logs_one_code_once_a_minute(
    topics: str, database_url: str, mail: Mail, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        first = ExitStack()
        proxy = first.enter_context(Proxy(database_url))
        stack.callback(first.close)
        url = proxy.url(database_url)
        environment = {
            "DATABASE_URL": url,
            "KAFKA_BOOTSTRAP_SERVERS": topics,
            "STUBLINE_DELIVERY_SMTP_URL": mail.url,
            "STUBLINE_APPROVAL_BACKOFF_MAX_MS": "200",
            "STUBLINE_DELIVERY_BACKOFF_MAX_MS": "200",
        }
        worker, sender = stack.enter_context(running(tmp_path, environment, WORKER, SENDER))
        for process in (worker, sender):
            process.until_ready()
        first.close()
        for process in (worker, sender):
            process.until_unavailable("database-unavailable")
        command = [str(Path(sys.executable).with_name("stubline")), "status"]
        done = subprocess.run(
            command,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert (done.returncode, done.stderr.split()[0]) == (4, "database-unavailable"), done.stderr
        worker.until_it_tried(8)  # only the first of these attempts is logged
        for process in (worker, sender):
            assert [
                line["level"]
                for line in process.written("retrying after error", "database-unavailable")
            ] == ["warning"]
            process.repeats_itself_at_most_once_a_minute()
        stack.enter_context(Proxy(database_url, proxy.port))
        for process in (worker, sender):
            process.until_ready()
        assert len(worker.written("ready again", "database-unavailable")) == 1
        assert sender.lines()[-1]["event"] == "ready"


@pytest.mark.slow
def test_without_kafka_a_process_logs_one_code_once_a_minute(
    stack: Stack, topics: str, database_url: str, tmp_path: Path
) -> None:
    environment = {"DATABASE_URL": database_url, "KAFKA_BOOTSTRAP_SERVERS": topics}
    with running(tmp_path, environment, WORKER, ENDPOINT) as processes:
        for process in processes:
            process.until_ready()
        stack.kafka[0].stop(immediate=True)
        try:
            for process in processes:
                process.until_unavailable("broker-unavailable")
            processes[0].until_it_tried(3)  # its clients try hundreds of times meanwhile
            for process in processes:
                assert len(process.written("retrying after error", "broker-unavailable")) == 1
                process.repeats_itself_at_most_once_a_minute()
        finally:
            stack.kafka[0].start()
        for process in processes:
            process.until_ready()
            assert len(process.written("ready again", "broker-unavailable")) == 1
            process.repeats_itself_at_most_once_a_minute()


@pytest.mark.parametrize(
    ("module", "variable"),
    [*PORTS.items(), (ENDPOINT, "STUBLINE_INGEST_WEBHOOK_PORT")],
    ids=lambda text: text,
)
def test_a_port_that_is_taken_is_one_sentence_and_a_next_step(
    tmp_path: Path, module: str, variable: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = {
            variable: str(other.getsockname()[1]),
            "STUBLINE_DELIVERY_SMTP_URL": "smtp://127.0.0.1:1",
        }
        unavailable = {
            "DATABASE_URL": "postgresql://127.0.0.1:1/x",
            "KAFKA_BOOTSTRAP_SERVERS": DEAD,
        }
        with running(tmp_path, unavailable | taken, module) as (process,):
            assert process.child.wait(WITHIN_S) == 70
            (line,) = process.lines()
    assert (line["event"], line["code"]) == ("ended by a fatal error", "port-unavailable")
    assert (
        f"127.0.0.1:{taken[variable]} ({variable}): Address already in use. The text names"
        in line["error"]
    )


@pytest.mark.parametrize("module", [WORKER, ENDPOINT])
def test_a_prober_that_hangs_up_leaves_no_line(tmp_path: Path, module: str) -> None:
    unavailable = {"DATABASE_URL": "postgresql://127.0.0.1:1/x", "KAFKA_BOOTSTRAP_SERVERS": DEAD}
    with running(tmp_path, unavailable, module) as (process,):
        address = ("127.0.0.1", httpx.URL(process.health).port or 0)
        for request in [
            b"GET /metrics HTTP/1.1\r\n\r\n",
            b"GET /readyz HTTP/1.0\r\n\r\n",
            b"GET",
            b"",
            b"\x00\r\n",
        ] * 20:
            with socket.create_connection(address) as prober:
                prober.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )  # closes with a reset
                prober.sendall(request)
        assert httpx.get(f"{process.health}/livez", timeout=10).status_code == 200
        assert {line["component"] for line in process.lines()} <= {
            "process",
            "lanes",
            "kafka",
            "webhooks",
        }

"""One process of a stage, which a test starts, stops and kills."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

import httpx

from tests.support.processes import module_command

ROOT = Path(__file__).resolve().parents[3]


class Process:
    """One member. See world.Member."""

    def __init__(self, stage: str, environment: Mapping[str, str], log: Path) -> None:
        self.stage, self.log_file = stage, log
        self.is_sabotaged = bool(environment["TOY_AT"])
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                module_command("tests.protocol.toy", stage),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(environment),
                cwd=ROOT,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def name(self) -> str:
        return f"{socket.gethostname()}:{self.pid}"

    @property
    def is_alive(self) -> bool:
        return self._child.poll() is None

    def kill(self) -> None:
        self._child.kill()
        self._child.wait(120)

    def pause(self) -> None:
        self._child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        self._child.send_signal(signal.SIGTERM)
        return self.wait(120)

    def wait(self, seconds: float) -> int:
        return self._child.wait(seconds)

    @property
    def is_stopped(self) -> bool:
        state = Path(f"/proc/{self.pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
        return state == "T"

    def dump(self) -> None:
        if self.is_alive:
            self._child.send_signal(signal.SIGUSR1)

    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")

    def readyz(self) -> str:
        """Return why /readyz is not ready; empty: it is."""
        if (response := self._get("/readyz")) is None:
            return "starting"
        return "" if response.status_code == HTTPStatus.OK else str(response.json()["detail"])

    def metrics(self) -> str:
        """Return /metrics; empty while the process starts."""
        response = self._get("/metrics")
        return "" if response is None else response.text

    def _get(self, path: str) -> httpx.Response | None:
        port = re.search(r'"health_port": (\d+)', self.log())
        return None if port is None else httpx.get(f"http://127.0.0.1:{port[1]}{path}", timeout=5)

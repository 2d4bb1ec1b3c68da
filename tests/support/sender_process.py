"""A sender that a test may stop at a named point, or whose rendering is slow. Production code has
no such switch.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from typing_extensions import override

from services.delivery.printing.documents import Document
from services.delivery.printing.errors import DesignUnknown
from services.delivery.printing.sandbox.limits import SandboxLimits
from services.delivery.rendering import configured_renderer
from services.delivery.sender import headers
from services.delivery.sender.process import run
from services.delivery.sender.telemetry import SenderLoggingTelemetry, SenderTelemetry
from services.delivery.settings import DeliverySettings
from services.runtime.observability.health import Health
from services.runtime.settings import load
from tests.protocol.toy.sabotage import Switches

POINTS = ("leased", "files_indexed", "rendered", "handed_over", "reply_received", "recorded")


class SabotagedTelemetry(SenderLoggingTelemetry):
    """Logs as SenderLoggingTelemetry does, and then acts."""

    def __init__(self, health: Health) -> None:
        super().__init__(health)
        self._switches = Switches(os.environ.get("SENDER_AT", ""))

    @override
    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in POINTS:
            return method

        def report_and_act(*args: Any) -> None:
            method(*args)
            self._switches.at(name)

        return report_and_act


class FaultyRenderer:
    """Slow, or faulty, as the test requested. It appends a line for each document that it
    renders.
    """

    def __init__(self, settings: DeliverySettings, telemetry: SenderTelemetry) -> None:
        self._renderer = configured_renderer(settings, telemetry)
        is_stamping = "SENDER_STAMPS" in os.environ
        self._stamps = configured_renderer(settings, telemetry) if is_stamping else None
        if seconds := os.environ.get("SENDER_PRESS_SECONDS"):
            self._renderer.layout_worker.limits = SandboxLimits(seconds_max=int(seconds))

    def key(self, document: Document) -> bytes:
        return self._renderer.key(document)

    def language(self, design: str, requested: str) -> str:
        return self._renderer.language(design, requested)

    def stamp(self, document: Document) -> bytes | None:
        """Stamp only where the test wants it; else each document takes the longer way."""
        return None if self._stamps is None else self._stamps.stamp(document)

    def compile(self, document: Document) -> None:
        """Rendering compiles too."""

    def render(self, document: Document) -> bytes:
        time.sleep(float(os.environ.get("SENDER_RENDER_MS", "0")) / 1_000)
        if "unprintable" in document.purchaser:
            raise RuntimeError("as the test requested")
        if "undesigned" in document.purchaser and not Path(os.environ["SENDER_DESIGN"]).exists():
            raise DesignUnknown("there is no design named gala")
        with Path(os.environ["SENDER_RENDERED"]).open("a", encoding="utf-8") as log:
            log.write(f"{document.order} {self.key(document).hex()}\n")
        return self._renderer.render(document)


original_mailbox = headers.mailbox


def defective(name: str, address: str) -> str:
    """Write a mailbox as a defective release would, which a name can trick into a second
    address.
    """
    return original_mailbox(name, address) + (", <eve@evil.example>" if "unsound" in name else "")


if __name__ == "__main__":
    headers.mailbox = defective
    faulthandler.register(signal.SIGUSR1)
    sys.exit(run(load(DeliverySettings), FaultyRenderer, SabotagedTelemetry))

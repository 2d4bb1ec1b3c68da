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

from services.delivery import printer
from services.delivery.printing.documents import Document
from services.delivery.printing.errors import DesignUnknown
from services.delivery.printing.sandbox.limits import SandboxLimits
from services.delivery.sender import headers
from services.delivery.sender.process import run
from services.delivery.sender.telemetry import SenderLoggingTelemetry, SenderTelemetry
from services.delivery.settings import DeliverySettings
from services.runtime.observability.health import Health
from services.runtime.settings import load
from tests.protocol.toy.sabotage import Switches

POINTS = ("taken", "named", "rendered", "handed_over", "answered", "recorded")


class Saboteur(SenderLoggingTelemetry):
    """Tells what a Narrator tells, and then acts."""

    def __init__(self, health: Health) -> None:
        super().__init__(health)
        self._switches = Switches(os.environ.get("SENDER_AT", ""))

    @override
    def __getattribute__(self, name: str) -> Any:
        told = super().__getattribute__(name)
        if name not in POINTS:
            return told

        def tell_and_act(*args: Any) -> None:
            told(*args)
            self._switches.at(name)

        return tell_and_act


class Trying:
    """Slow, or faulty, as the test asked. Says of each document that it was rendered: a line of the
    file that is named.
    """

    def __init__(self, settings: DeliverySettings, telemetry: SenderTelemetry) -> None:
        self._renderer = printer.renderer(settings, telemetry)
        if seconds := os.environ.get("SENDER_PRESS_SECONDS"):
            self._renderer.press.ceiling = SandboxLimits(seconds_max=int(seconds))

    def key(self, document: Document) -> bytes:
        return self._renderer.key(document)

    def language(self, design: str, asked: str) -> str:
        return self._renderer.language(design, asked)

    def render(self, document: Document) -> bytes:
        time.sleep(float(os.environ.get("SENDER_RENDER_MS", "0")) / 1_000)
        if "unprintable" in document.purchaser:
            raise RuntimeError("as the test asked")
        if "undesigned" in document.purchaser and not Path(os.environ["SENDER_DESIGN"]).exists():
            raise DesignUnknown("there is no design named gala")
        with Path(os.environ["SENDER_RENDERED"]).open("a", encoding="utf-8") as told:
            told.write(f"{document.order} {self.key(document).hex()}\n")
        return self._renderer.render(document)


sound = headers.mailbox


def defective(name: str, address: str) -> str:
    """As a release would write it that can be tricked by a name into a second address."""
    return sound(name, address) + (", <eve@evil.example>" if "unsound" in name else "")


if __name__ == "__main__":
    headers.mailbox = defective
    faulthandler.register(signal.SIGUSR1)
    sys.exit(run(load(DeliverySettings), Trying, Saboteur))

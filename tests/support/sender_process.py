"""A sender that a test may stop at a named point, or whose rendering is slow. Production code has no such switch."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from typing import Any

from typing_extensions import override

from services.delivery.documents import Document
from services.delivery.render import render
from services.delivery.sender.process import run
from services.delivery.sender.telemetry import Narrator
from services.delivery.settings import Settings
from services.runtime.health import Health
from services.runtime.settings import load
from tests.toy.sabotage import Switches

POINTS = ("taken", "rendered", "handed_over", "answered", "recorded")


class Saboteur(Narrator):
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


def slowly(document: Document) -> bytes:
    time.sleep(float(os.environ.get("SENDER_RENDER_MS", "0")) / 1_000)
    if "unprintable" in document.purchaser:
        raise RuntimeError("as the test asked")
    return render(document)


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)
    sys.exit(run(load(Settings), slowly, Saboteur))

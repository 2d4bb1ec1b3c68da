"""The local mail server for the processes that start it, read its mails and make it misbehave."""

from __future__ import annotations

import mailbox
import os
import signal
import sys
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Literal

from deploy.local.ports import HOST, listens
from deploy.local.process import Plan, Server, replace_text

ROOT = Path(__file__).resolve().parents[2]
Mode = Literal["accept", "tempfail", "permfail", "hang", "swallow"]


class Mail(Server):
    def __init__(self, state: Path, port: int, *, detached: bool) -> None:
        super().__init__("smtp", state, port, detached=detached)
        self.maildir = state / "mail"
        self._control = state / "smtp.mode"

    @property
    def url(self) -> str:
        return f"smtp://{HOST}:{self.port}"

    def start(self) -> None:
        if self.running:
            return
        options = [
            "--port",
            str(self.port),
            "--maildir",
            str(self.maildir),
            "--control",
            str(self._control),
        ]
        command = [sys.executable, "-m", "deploy.local.smtp", *options]
        self.spawn(Plan(command, os.environ, ROOT, signal.SIGTERM))
        self.wait_ready(lambda: listens(self.port))

    def stop(self, *, immediate: bool = False) -> None:
        self.resume()
        self.end(signal.SIGKILL if immediate else signal.SIGTERM, seconds=5)

    def behave(self, mode: Mode) -> None:
        """Set what it does from the next mail on."""
        replace_text(self._control, mode)

    def slow(self, milliseconds: int) -> None:
        """Accept each mail only after a delay, from the next one on."""
        replace_text(self._control, f"slow {milliseconds}")

    def mails(self) -> list[EmailMessage]:
        """Return all mails that were accepted, in no order."""
        if not self.maildir.exists():
            return []
        parser = BytesParser(EmailMessage, policy=policy.default)
        box = mailbox.Maildir(self.maildir, create=False)
        return [parser.parsebytes(box.get_bytes(key)) for key in box.keys()]  # noqa: SIM118 - a Maildir iterates its mails

    def clear(self) -> None:
        """Remove all mails, and accept again."""
        self.behave("accept")
        if self.maildir.exists():
            mailbox.Maildir(self.maildir, create=False).clear()

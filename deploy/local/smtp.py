"""A mail server for one machine: each mail it accepts is a file in a Maildir, safe on disk before
the answer leaves.

Its control file says, from one mail to the next, how it behaves: `accept`; `tempfail` (451) and
`permfail` (550); `hang` (no answer while it says so); `swallow` (keeps the mail, then hangs up
without an answer); `slow MILLISECONDS`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import mailbox
import signal
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from deploy.local.ports import HOST

MAIL_BYTES_MAX = 64 * 1024 * 1024
ANSWERS = {
    "accept": "250 2.0.0 kept",
    "permfail": "550 5.7.1 refused, as the control file says",
    "tempfail": "451 4.3.0 not now, as the control file says",
}


class Inbox:
    def __init__(self, folder: Path, control: Path) -> None:
        self._mails = mailbox.Maildir(folder, create=True)
        self._control = control

    def mode(self) -> tuple[str, int]:
        with contextlib.suppress(FileNotFoundError):
            word, _, milliseconds = self._control.read_text("utf-8").strip().partition(" ")
            return word, int(milliseconds or 0)
        return "accept", 0

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        while (mode := self.mode())[0] == "hang":  # noqa: ASYNC110 - a file tells no event
            await asyncio.sleep(0.05)
        word, milliseconds = mode
        await asyncio.sleep(milliseconds / 1000)
        if word in {"accept", "slow", "swallow"}:
            await asyncio.to_thread(self.keep, envelope)
        if word == "swallow" and isinstance(server.transport, asyncio.Transport):
            server.transport.abort()
        return ANSWERS.get(word, ANSWERS["accept"])

    def keep(self, envelope: Envelope) -> None:
        mail = mailbox.MaildirMessage(envelope.content)
        mail["X-Envelope-From"] = envelope.mail_from or ""
        mail["X-Envelope-To"] = ", ".join(envelope.rcpt_tos)
        self._mails.add(mail)


async def serve(port: int, inbox: Inbox) -> None:
    loop = asyncio.get_running_loop()

    def connection() -> SMTP:
        return SMTP(
            inbox,
            hostname="localhost",
            ident="Stubline",
            enable_SMTPUTF8=True,
            data_size_limit=MAIL_BYTES_MAX,
        )

    server = await loop.create_server(connection, HOST, port, reuse_address=True)
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--maildir", type=Path, required=True)
    parser.add_argument("--control", type=Path, required=True)
    wish = parser.parse_args()
    asyncio.run(serve(wish.port, Inbox(wish.maildir, wish.control)))


if __name__ == "__main__":
    main()

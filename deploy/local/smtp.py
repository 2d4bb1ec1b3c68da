"""A mail server for one machine. Each mail that it accepts is a file in a Maildir, on disk before
the reply is sent.

A control file decides how the next mail is answered: `accept`; `tempfail` (451) and `permfail`
(550); `hang` (no reply as long as the file has this word); `swallow` (store the mail, then close
the connection without a reply); `slow MILLISECONDS`.
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
REPLIES = {
    "accept": "250 2.0.0 stored",
    "permfail": "550 5.7.1 refused by the control file",
    "tempfail": "451 4.3.0 refused for now by the control file",
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
        while (mode := self.mode())[0] == "hang":  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.05)
        word, milliseconds = mode
        await asyncio.sleep(milliseconds / 1000)
        if word in {"accept", "slow", "swallow"}:
            await asyncio.to_thread(self.keep, envelope)
        if word == "swallow" and isinstance(server.transport, asyncio.Transport):
            server.transport.abort()
        return REPLIES.get(word, REPLIES["accept"])

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
    options = parser.parse_args()
    asyncio.run(serve(options.port, Inbox(options.maildir, options.control)))


if __name__ == "__main__":
    main()

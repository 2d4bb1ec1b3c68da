"""A mail server for one machine: ESMTP (RFC 5321) with SIZE, 8BITMIME, SMTPUTF8, DSN, PIPELINING,
STARTTLS and AUTH. Each mail that it accepts is a file in a Maildir, on disk before the reply.

A control file decides how the next mail is answered: `accept`; `tempfail` (451) and `permfail`
(550); `hang` (no reply as long as the file has this word); `swallow` (store the mail, then close
the connection without a reply); `slow MILLISECONDS`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import contextlib
import hmac
import itertools
import os
import re
import signal
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from deploy.local.ports import HOST

MAIL_BYTES_MAX = 64 * 1024 * 1024
LINE_BYTES_MAX = 12_288  # of a command; AUTH has the longest (RFC 4954)
RECIPIENTS_MAX = 100
CONTROL_CHECK_S = 0.05
STORE_THREADS = 4  # fsync waits; several connections wait at the same time
ENDING = b"\r\n.\r\n"
PATH = re.compile(r"(?i)(?:FROM|TO):\s*<([^<>\x00-\x1f]*)>((?: [!-<>-~=\x80-\U0010ffff]+)*)\s*")
REPLIES = {
    "permfail": b"550 5.7.1 refused by the control file",
    "tempfail": b"451 4.3.0 refused for now by the control file",
}
STORED = b"250 2.0.0 stored"


class Maildir:
    """Mails as files: written in `tmp`, on disk, then moved to `new`."""

    def __init__(self, folder: Path) -> None:
        for name in ("tmp", "new", "cur"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._folder, self._count = folder, itertools.count()
        self._host = socket.gethostname().replace("/", "_").replace(":", "_")

    def add(self, content: bytes) -> None:
        name = f"{time.time():.6f}.P{os.getpid()}Q{next(self._count)}.{self._host}"
        written = self._folder / "tmp" / name
        handle = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb", closefd=False) as file:
                file.write(content)
            os.fsync(handle)
        finally:
            os.close(handle)
        written.rename(self._folder / "new" / name)


@dataclass(frozen=True, slots=True)
class MailServer:
    """What every connection shares. `login`: a user and a password, without which no mail is
    taken. `tls`: for STARTTLS.
    """

    mails: Maildir
    control: Path
    login: tuple[str, str] | None = None
    tls: ssl.SSLContext | None = None
    writers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(STORE_THREADS, "store")
    )

    def mode(self) -> tuple[str, int]:
        with contextlib.suppress(FileNotFoundError):
            word, _, milliseconds = self.control.read_text("utf-8").strip().partition(" ")
            return word, int(milliseconds or 0)
        return "accept", 0


@dataclass(slots=True)
class Envelope:
    """The mail that a connection is about to hand over."""

    sender: str | None = None
    recipients: list[str] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One client. Commands are answered in their order, so a client may send several at once;
    while a mail is being stored, what follows it waits in the buffer.
    """

    def __init__(self, server: MailServer, connections: set[Connection]) -> None:
        self._server, self._connections, self._buffer = server, connections, bytearray()
        self._envelope, self._is_greeted = Envelope(), False
        self._is_encrypted = self._is_logged_in = False
        self._read: Callable[[], bool] = self._read_command
        self._searched = 0  # of the buffer, for the end of a mail
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None  # while it runs, nothing is read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        if self._is_encrypted:
            return  # STARTTLS: the client greets again
        with contextlib.suppress(OSError):
            option = self._transport.get_extra_info("socket")
            option.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reply(b"220 localhost ESMTP Stubline")

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._connections.discard(self)
        if not self.closed.done():
            self.closed.set_result(None)
        if self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._proceed()

    def _proceed(self) -> None:
        while self._task is None and not self._transport.is_closing() and self._read():
            pass

    def _reply(self, line: bytes) -> None:
        self._transport.write(line + b"\r\n")

    def _line(self) -> bytes | None:
        """Take a line from the buffer; None if there is no whole one."""
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > LINE_BYTES_MAX:
                self._reply(b"500 5.5.2 line too long")
                self._transport.close()
            return None
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        return line

    def _read_command(self) -> bool:
        if (line := self._line()) is None:
            return False
        verb, _, argument = line.partition(b" ")
        handler = self._COMMANDS.get(verb.upper())
        if handler is None:
            self._reply(b"500 5.5.1 unknown command")
            return True
        try:
            handler(self, argument.decode("utf-8"))
        except UnicodeDecodeError:
            self._reply(b"501 5.5.4 the argument is not UTF-8")
        return True

    def _helo(self, _argument: str) -> None:
        self._is_greeted, self._envelope = True, Envelope()
        self._reply(b"250 localhost")

    def _ehlo(self, _argument: str) -> None:
        self._is_greeted, self._envelope = True, Envelope()
        extensions = [
            *(b"localhost", b"SIZE %d" % MAIL_BYTES_MAX, b"8BITMIME", b"SMTPUTF8", b"DSN"),
            *(b"PIPELINING", b"ENHANCEDSTATUSCODES"),
        ]
        if self._server.tls is not None and not self._is_encrypted:
            extensions.append(b"STARTTLS")
        if self._server.login is not None and (self._is_encrypted or self._server.tls is None):
            extensions.append(b"AUTH PLAIN LOGIN")
        lines = [b"250-" + extension for extension in extensions[:-1]]
        self._reply(b"\r\n".join([*lines, b"250 " + extensions[-1]]))

    def _mail(self, argument: str) -> None:
        if not self._is_greeted:
            self._reply(b"503 5.5.1 send EHLO first")
        elif self._server.login is not None and not self._is_logged_in:
            self._reply(b"530 5.7.0 log in first")
        elif self._envelope.sender is not None:
            self._reply(b"503 5.5.1 nested MAIL")
        elif (path := PATH.fullmatch(argument)) is None or argument[:4].upper() != "FROM":
            self._reply(b"501 5.5.4 MAIL FROM:<address>")
        elif _size(path[2]) > MAIL_BYTES_MAX:
            self._reply(b"552 5.3.4 the mail is too large")
        else:
            self._envelope.sender = path[1]
            self._reply(b"250 2.1.0 ok")

    def _rcpt(self, argument: str) -> None:
        if self._envelope.sender is None:
            self._reply(b"503 5.5.1 send MAIL first")
        elif (path := PATH.fullmatch(argument)) is None or argument[:2].upper() != "TO":
            self._reply(b"501 5.5.4 RCPT TO:<address>")
        elif not path[1]:
            self._reply(b"501 5.1.3 no address")
        elif len(self._envelope.recipients) >= RECIPIENTS_MAX:
            self._reply(b"452 4.5.3 too many recipients")
        else:
            self._envelope.recipients.append(path[1])
            self._reply(b"250 2.1.5 ok")

    def _data(self, _argument: str) -> None:
        if not self._envelope.recipients:
            self._reply(b"503 5.5.1 send RCPT first")
            return
        self._reply(b"354 end with <CR><LF>.<CR><LF>")
        self._read, self._searched = self._read_mail, 0

    def _read_mail(self) -> bool:
        """Take a mail from the buffer. An empty one is the final dot alone."""
        if self._buffer.startswith(b".\r\n"):
            content, length = b"", 3
        else:
            end = self._buffer.find(ENDING, self._searched)
            if end < 0:
                self._searched = max(0, len(self._buffer) - len(ENDING) + 1)
                if len(self._buffer) > MAIL_BYTES_MAX:
                    self._reply(b"552 5.3.4 the mail is too large")
                    self._transport.close()
                return False
            content, length = bytes(self._buffer[: end + 2]), end + len(ENDING)
        del self._buffer[:length]
        self._read = self._read_command
        self._start(self._take(content, self._envelope))
        self._envelope = Envelope()
        return True

    def _start(self, work: Coroutine[None, None, None]) -> None:
        """Read nothing more until the work is done."""

        def finished(task: asyncio.Task[None]) -> None:
            self._task = None
            if not task.cancelled():
                task.result()
                self._proceed()

        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(finished)

    async def _take(self, content: bytes, envelope: Envelope) -> None:
        server = self._server
        while (mode := server.mode())[0] == "hang":  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(CONTROL_CHECK_S)
        word, milliseconds = mode
        if milliseconds:
            await asyncio.sleep(milliseconds / 1_000)
        if word in REPLIES:
            self._reply(REPLIES[word])
            return
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(server.writers, server.mails.add, stored(content, envelope))
        except OSError as error:
            self._reply(b"452 4.3.1 not stored: " + (error.strerror or "").encode())
            return
        if word == "swallow":
            self._transport.abort()
        else:
            self._reply(STORED)

    def _rset(self, _argument: str) -> None:
        self._envelope = Envelope()
        self._reply(b"250 2.0.0 ok")

    def _noop(self, _argument: str) -> None:
        self._reply(b"250 2.0.0 ok")

    def _quit(self, _argument: str) -> None:
        self._reply(b"221 2.0.0 bye")
        self._transport.close()

    def _starttls(self, _argument: str) -> None:
        if self._server.tls is None or self._is_encrypted:
            self._reply(b"502 5.5.1 no STARTTLS")
            return
        if self._buffer:  # commands after it would be taken for encrypted ones (RFC 3207)
            self._reply(b"501 5.5.4 nothing may follow STARTTLS")
            self._transport.close()
            return
        self._reply(b"220 2.0.0 begin")
        self._is_encrypted, self._is_greeted, self._envelope = True, False, Envelope()
        self._start(self._encrypt(self._server.tls))

    async def _encrypt(self, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        try:
            encrypted = await loop.start_tls(self._transport, self, context, server_side=True)
        except (OSError, ConnectionError):
            self._transport.abort()
            return
        if encrypted is None:
            return
        self._transport = encrypted

    def _auth(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        if self._server.login is None or self._is_logged_in:
            self._reply(b"503 5.5.1 no AUTH now")
        elif mechanism.upper() == "PLAIN":
            self._answers_to([b"334 "], [initial] if initial else [], self._log_in_plain)
        elif mechanism.upper() == "LOGIN":
            prompts = [b"334 VXNlcm5hbWU6", b"334 UGFzc3dvcmQ6"]
            self._answers_to(prompts, [initial] if initial else [], self._log_in)
        else:
            self._reply(b"504 5.5.4 only PLAIN and LOGIN")

    def _answers_to(
        self, prompts: list[bytes], answers: list[str], then: Callable[[list[str]], None]
    ) -> None:
        """Prompt for what is missing, line by line, and go on with all answers."""

        def read_answer() -> bool:
            if (line := self._line()) is None:
                return False
            self._read = self._read_command
            if line == b"*":
                self._reply(b"501 5.7.0 cancelled")
                return True
            self._answers_to(prompts, [*answers, line.decode("ascii", "replace")], then)
            return True

        if len(answers) < len(prompts):
            self._reply(prompts[len(answers)])
            self._read = read_answer
            return
        try:
            then([base64.b64decode(answer, validate=True).decode() for answer in answers])
        except (binascii.Error, ValueError):
            self._reply(b"501 5.5.2 not base64")

    def _log_in_plain(self, answers: list[str]) -> None:
        _, _, user_and_password = answers[0].partition("\0")
        self._log_in(user_and_password.split("\0", 1))

    def _log_in(self, answers: list[str]) -> None:
        login = "\0".join(self._server.login or ())
        self._is_logged_in = hmac.compare_digest("\0".join(answers).encode(), login.encode())
        accepted, refused = b"235 2.7.0 logged in", b"535 5.7.8 wrong user or password"
        self._reply(accepted if self._is_logged_in else refused)

    _COMMANDS = {  # noqa: RUF012 - a table, never changed
        b"HELO": _helo,
        b"EHLO": _ehlo,
        b"MAIL": _mail,
        b"RCPT": _rcpt,
        b"DATA": _data,
        b"RSET": _rset,
        b"NOOP": _noop,
        b"QUIT": _quit,
        b"STARTTLS": _starttls,
        b"AUTH": _auth,
    }


def _size(options: str) -> int:
    for option in options.split():
        name, _, value = option.partition("=")
        if name.upper() == "SIZE" and value.isascii() and value.isdigit():
            return int(value)
    return 0


def stored(content: bytes, envelope: Envelope) -> bytes:
    """Return the mail as it came, without the doubled dots, below two fields with its envelope."""
    if content.startswith(b"."):
        content = content[1:]
    plain = content.replace(b"\r\n..", b"\r\n.")
    sender, recipients = envelope.sender or "", ", ".join(envelope.recipients)
    return b"X-Envelope-From: %b\r\nX-Envelope-To: %b\r\n%b" % (
        sender.encode(),
        recipients.encode(),
        plain,
    )


async def serve(
    port: int,
    mail_server: MailServer,
    stopped: asyncio.Event,
    on_listening: Callable[[int], None] = lambda _port: None,
) -> None:
    """Serve until `stopped`. `on_listening` gets the port, also if port 0 was requested."""
    loop = asyncio.get_running_loop()
    connections = set[Connection]()
    server = await loop.create_server(
        lambda: Connection(mail_server, connections), HOST, port, reuse_address=True
    )
    on_listening(server.sockets[0].getsockname()[1])
    await stopped.wait()
    server.close()
    for connection in [*connections]:
        connection.abort()
        await connection.closed


async def serve_until_signal(port: int, mail_server: MailServer) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await serve(port, mail_server, stopped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--maildir", type=Path, required=True)
    parser.add_argument("--control", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(
        serve_until_signal(options.port, MailServer(Maildir(options.maildir), options.control))
    )


if __name__ == "__main__":
    main()

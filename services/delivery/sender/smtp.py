"""The dialogue with a mail server, in which every wait is bounded. A reply, or its absence, is
returned as an SmtpReply; nothing is raised.

Without a reply to the final dot it is not known whether the mail was accepted.
"""

from __future__ import annotations

import contextlib
import ipaddress
import smtplib
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from typing_extensions import override

from services.delivery.addresses import ascii_domain
from services.delivery.errors import SmtpUrlUnusable
from services.delivery.sender.rules import SmtpReply, Stage

PORTS = {"smtp": 25, "smtps": 465}
OK = 2
CONTINUE = 354
LINE_BYTES_MAX, LINES_MAX = 2_048, 100  # RFC 5321 requires 512
RECEIVED_BYTES_MAX = 4_096


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """A mail server, as its URL names it."""

    host: str
    port: int
    is_encrypted: bool = False
    wants_starttls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


def parse_smtp_url(url: str) -> SmtpServer:
    """Parse STUBLINE_DELIVERY_SMTP_URL. Raises SmtpUrlUnusable, without quoting it: it may hold a
    password.
    """
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        port = parts.port
    except ValueError:
        raise SmtpUrlUnusable("it cannot be read as a URL") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise SmtpUrlUnusable(
            "it is not set" if not url else "it does not begin with smtp:// or smtps:// and a host"
        )
    if set(options) - {"starttls"} or options.get("starttls", "required") != "required":
        raise SmtpUrlUnusable("the only option is ?starttls=required")
    try:
        host = parts.hostname if parts.hostname.isascii() else ascii_domain(parts.hostname)
    except UnicodeError as error:
        raise SmtpUrlUnusable(f"its host cannot be one: {error}") from None
    server = SmtpServer(
        host,
        port or PORTS[parts.scheme],
        parts.scheme == "smtps",
        "starttls" in options,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )
    if server.password and not (
        server.is_encrypted or server.wants_starttls or is_loopback(server.host)
    ):
        raise SmtpUrlUnusable("it would send a password in the clear")
    return server


def is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """A mail for the server: the envelope, and the mail as bytes with CRLF."""

    sender: str
    recipient: str
    envelope_id: str  # quoted in reports about the mail (RFC 3461)
    content: bytes


class StrictSmtp(smtplib.SMTP):
    """Accepts complete replies only, and ends each wait at the dialogue's deadline. The standard
    library takes `2` and a broken connection for a code, and `25` for a line: after a final dot
    that would be a mail taken for sent. And a server that sends a byte a second keeps each of its
    waits short, and would never end the dialogue.
    """

    def __init__(self, server: SmtpServer, timeout_s: float) -> None:
        super().__init__(timeout=timeout_s)
        self._host = server.host  # the name that certificates are checked against
        self._received = b""  # after the last complete line
        self.reply_s_max, self.deadline = timeout_s, float("inf")  # by time.monotonic()

    @override
    def getreply(self) -> tuple[int, bytes]:
        lines: list[bytes] = []
        while True:
            line = self._line()
            if not line[:3].isdigit() or len(lines) > LINES_MAX:
                raise self._broken("cut off")
            lines.append(line[4:].strip())
            if line[3:4] != b"-":
                return int(line[:3]), b"\n".join(lines)

    @override
    def send(self, s: Any) -> None:
        self._limit_wait()
        super().send(s)

    @override
    def starttls(self, *arguments: Any, **options: Any) -> tuple[int, bytes]:
        """Also refuses what was sent in the clear after the reply: somebody between the two could
        write the replies to come (CVE-2011-0411 and its like).
        """
        self._limit_wait()
        reply = super().starttls(*arguments, **options)
        if self._received:
            raise self._broken("text in the clear after STARTTLS")
        return reply

    def _line(self) -> bytes:
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > LINE_BYTES_MAX or self.sock is None:
                raise self._broken("cut off" if self._received else "closed")
            self._limit_wait()
            try:
                received = self.sock.recv(RECEIVED_BYTES_MAX)
            except OSError as error:
                raise self._broken(f"{type(error).__name__}: {error}") from None
            if not received:
                raise self._broken("cut off" if self._received else "closed")
            self._received += received
        line, self._received = self._received[:end], self._received[end + 1 :]
        return line

    def _limit_wait(self) -> None:
        """Let the next wait end at the deadline."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise self._broken("the mail's deadline has passed")
        if self.sock is not None:
            self.sock.settimeout(min(self.reply_s_max, left))

    def _broken(self, why: str) -> smtplib.SMTPServerDisconnected:
        self.close()
        return smtplib.SMTPServerDisconnected(why)

    @override
    def close(self) -> None:
        self._received = b""
        super().close()


class StrictSmtpOverTls(StrictSmtp, smtplib.SMTP_SSL):
    """The same connection, encrypted from the first byte."""

    def __init__(self, server: SmtpServer, timeout_s: float) -> None:
        smtplib.SMTP_SSL.__init__(self, timeout=timeout_s, context=ssl.create_default_context())
        self._host = server.host
        self._received = b""
        self.reply_s_max, self.deadline = timeout_s, float("inf")


class NoReply(Exception):
    """No reply, or one that ends the dialogue."""

    def __init__(self, reply: SmtpReply) -> None:
        self.reply = reply
        super().__init__(str(reply))


class SmtpChannel:
    """One connection, used for several mails. It is opened when a mail comes, and closed after any
    failure. Not shared between threads.
    """

    def __init__(
        self, server: SmtpServer, *, timeout_s: float, deadline_s: float, mails_max: int
    ) -> None:
        self.server, self._timeout_s, self._deadline_s, self._mails_max = (
            server,
            timeout_s,
            deadline_s,
            mails_max,
        )
        self._smtp: StrictSmtp | None = None
        self._mails = 0
        self._deadline = float("inf")  # of the dialogue for this mail, by time.monotonic()

    def send(
        self, mail: OutgoingMail, *, at_final_dot: Callable[[], None] = lambda: None
    ) -> SmtpReply:
        """Return the reply to the final dot, or the first reply that ended the dialogue. No reply
        is code 0.
        """
        if self._mails >= self._mails_max:
            self.close()
        is_reused = self._smtp is not None
        self._deadline = time.monotonic() + self._deadline_s
        try:
            try:
                self._begin(mail)
            except NoReply as ended:
                if not is_reused or ended.reply.code not in {0, 421}:
                    raise
                # The server closed it while it was idle: that has nothing to do with this mail.
                self.close()
                self._begin(mail)
            reply = self._hand_over(mail, at_final_dot)
        except NoReply as ended:
            reply = ended.reply
        self._mails += 1
        if reply.code // 100 != OK:
            self.close()
        return reply

    def close(self) -> None:
        """Close the connection, politely if the server waits for a command."""
        smtp, self._smtp, self._mails = self._smtp, None, 0
        if smtp is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                smtp.reply_s_max = min(1.0, self._timeout_s)  # a QUIT may not cost more
                smtp.deadline = time.monotonic() + smtp.reply_s_max
                smtp.docmd("QUIT")
            smtp.close()

    def _begin(self, mail: OutgoingMail) -> None:
        """Send the commands up to DATA, until the server replies 354. The mail follows. A server
        that offers PIPELINING (RFC 2920) gets them at once, which saves two round trips.
        """
        smtp = self._opened()
        commands = envelope_commands(mail, smtp)
        try:
            if smtp.has_extn("pipelining"):
                smtp.send("".join(f"{command}\r\n" for _, command, _ in commands))
        except (OSError, smtplib.SMTPException) as error:
            raise self._end(SmtpReply("mail", 0, describe_error(error))) from None
        for stage, command, expected in commands:
            if smtp.has_extn("pipelining"):
                self._expect(stage, smtp.getreply, expected, is_in_sync=stage == "data")
            else:
                self._expect(stage, partial(smtp.docmd, command), expected)

    def _hand_over(self, mail: OutgoingMail, at_final_dot: Callable[[], None]) -> SmtpReply:
        smtp = self._opened()
        try:
            smtp.send(dot_stuffed(mail.content))
        except (OSError, smtplib.SMTPException) as error:
            raise NoReply(SmtpReply("data", 0, describe_error(error))) from None
        try:
            smtp.send(b".\r\n")
            at_final_dot()
            code, text = smtp.getreply()
        except (OSError, smtplib.SMTPException) as error:
            raise NoReply(SmtpReply("end", 0, describe_error(error))) from None
        return SmtpReply("end", code, one_line(text))

    def _opened(self) -> StrictSmtp:
        smtp = self._smtp
        if smtp is None:
            smtp = self._connected()
            self._login(smtp)
        smtp.deadline = self._deadline
        return smtp

    def _connected(self) -> StrictSmtp:
        server = self.server
        smtp = (StrictSmtpOverTls if server.is_encrypted else StrictSmtp)(server, self._timeout_s)
        smtp.deadline = self._deadline
        self._smtp = smtp
        self._expect("connect", lambda: smtp.connect(server.host, server.port), OK)
        # Without it the final dot waits 40 ms for the acknowledgement of what precedes it.
        if smtp.sock is not None:
            smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return smtp

    def _login(self, smtp: StrictSmtp) -> None:
        self._expect("connect", smtp.ehlo, OK)
        try:
            if self.server.wants_starttls:
                code, text = smtp.starttls(context=ssl.create_default_context())
                if code // 100 != OK:
                    raise self._end(SmtpReply("login", code, one_line(text)))
                self._expect("connect", smtp.ehlo, OK)
            if self.server.user:
                smtp.login(self.server.user, self.server.password)
        except smtplib.SMTPResponseException as error:
            raise self._end(
                SmtpReply("login", error.smtp_code, one_line(error.smtp_error))
            ) from None
        except smtplib.SMTPNotSupportedError as error:
            raise self._end(SmtpReply("login", 530, describe_error(error))) from None
        except (OSError, smtplib.SMTPException) as error:
            raise self._end(SmtpReply("login", 0, describe_error(error))) from None

    def _expect(
        self,
        stage: Stage,
        request: Callable[[], tuple[int, bytes]],
        expected: int,
        *,
        is_in_sync: bool = True,
    ) -> None:
        """Raise NoReply unless the reply has the expected first digit. `is_in_sync`: no reply to a
        later command is on its way.
        """
        try:
            code, text = request()
        except (OSError, smtplib.SMTPException) as error:
            raise self._end(SmtpReply(stage, 0, describe_error(error))) from None
        if code // 100 != expected:
            raise self._end(SmtpReply(stage, code, one_line(text)), is_in_sync=is_in_sync)

    def _end(self, reply: SmtpReply, *, is_in_sync: bool = True) -> NoReply:
        if not is_in_sync and self._smtp is not None:
            self._smtp.close()  # it may wait for a mail by now, to which QUIT would belong
        if reply.code == 0 or reply.stage in {"connect", "login"} or not is_in_sync:
            self.close()
        return NoReply(reply)


def envelope_commands(mail: OutgoingMail, smtp: StrictSmtp) -> list[tuple[Stage, str, int]]:
    """Return the commands before the mail, each with its stage and the first digit of its reply."""
    options = [f"size={len(mail.content)}"] if smtp.has_extn("size") else []
    recipient_options = ["NOTIFY=FAILURE,DELAY"] if smtp.has_extn("dsn") else []
    if smtp.has_extn("dsn"):
        options += ["RET=HDRS", f"ENVID={mail.envelope_id}"]
    sender = " ".join([f"MAIL FROM:<{mail.sender}>", *options])
    recipient = " ".join([f"RCPT TO:<{mail.recipient}>", *recipient_options])
    return [("mail", sender, OK), ("rcpt", recipient, OK), ("data", "DATA", CONTINUE // 100)]


def dot_stuffed(content: bytes) -> bytes:
    """Return a mail as SMTP carries it (RFC 5321, 4.5.2), ended by CRLF. Its lines end by CRLF."""
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"


def one_line(text: bytes | str) -> str:
    """Return a server's text in one line of bounded length."""
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return " ".join(decoded.split())[:300]


def describe_error(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}")

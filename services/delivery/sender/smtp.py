"""The dialogue with a mail server, every wait bounded. What it says comes back as an Answer,
silence too; nothing is raised.

The final dot is the moment that matters: without an answer to it, nobody knows whether the mail was
accepted.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from typing_extensions import override

from services.delivery.addresses import domain
from services.delivery.errors import SmtpUrlUnusable
from services.delivery.sender.rules import SmtpReply, Stage

LEADING_DOT = re.compile(rb"^\.", re.MULTILINE)
PORTS = {"smtp": 25, "smtps": 465}
OK = 2
GO_ON = 354
LINE_BYTES_MAX, LINES_MAX = 2_048, 100  # RFC 5321 asks for 512


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


def destination(url: str) -> SmtpServer:
    """Raises SmtpUrlUnusable, without quoting the URL: it may hold a password."""
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
        host = parts.hostname if parts.hostname.isascii() else domain(parts.hostname)
    except UnicodeError as error:
        raise SmtpUrlUnusable(f"its host cannot be one: {error}") from None
    found = SmtpServer(
        host,
        port or PORTS[parts.scheme],
        parts.scheme == "smtps",
        "starttls" in options,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )
    if found.password and not (
        found.is_encrypted or found.wants_starttls or is_this_machine(found.host)
    ):
        raise SmtpUrlUnusable("it would send a password in the clear")
    return found


def is_this_machine(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """What is handed over: the envelope, and the mail as bytes with CRLF."""

    sender: str
    recipient: str
    envelope_id: str  # comes back in reports about the mail (RFC 3461)
    mail: bytes


class StrictSmtp(smtplib.SMTP):
    """An answer counts when it is whole. The standard library takes `2` and a broken connection for
    a code, and `25` for a line: behind a final dot that would be a mail taken for sent.
    """

    def __init__(self, where: SmtpServer, timeout_s: float) -> None:
        super().__init__(timeout=timeout_s)
        self._host = where.host  # the name that certificates are checked against

    @override
    def getreply(self) -> tuple[int, bytes]:
        said: list[bytes] = []
        if self.file is None and self.sock is not None:
            self.file = self.sock.makefile("rb")
        while True:
            try:
                line = self.file.readline(LINE_BYTES_MAX) if self.file is not None else b""
            except OSError as error:
                raise self._broken(f"{type(error).__name__}: {error}") from None
            if not line.endswith(b"\n") or not line[:3].isdigit() or len(said) > LINES_MAX:
                raise self._broken("cut off" if line else "closed")
            said.append(line[4:].strip())
            if line[3:4] != b"-":
                return int(line[:3]), b"\n".join(said)

    def _broken(self, why: str) -> smtplib.SMTPServerDisconnected:
        self.close()
        return smtplib.SMTPServerDisconnected(why)


class StrictSmtpOverTls(StrictSmtp, smtplib.SMTP_SSL):
    """The same, encrypted from its first byte."""

    def __init__(self, where: SmtpServer, timeout_s: float) -> None:
        smtplib.SMTP_SSL.__init__(self, timeout=timeout_s, context=ssl.create_default_context())
        self._host = where.host


class NoReply(Exception):
    """No answer, or none that lets the dialogue go on."""

    def __init__(self, answer: SmtpReply) -> None:
        self.answer = answer
        super().__init__(str(answer))


class SmtpChannel:
    """One connection, used for several mails. It is opened when a mail comes, and closed at the
    first doubt.
    """

    def __init__(
        self, where: SmtpServer, *, timeout_s: float, deadline_s: float, mails_max: int
    ) -> None:
        self.where, self._timeout_s, self._deadline_s, self._mails_max = (
            where,
            timeout_s,
            deadline_s,
            mails_max,
        )
        self._smtp: smtplib.SMTP | None = None
        self._mails = 0

    def send(
        self, parcel: OutgoingMail, *, at_final_dot: Callable[[], None] = lambda: None
    ) -> SmtpReply:
        """The answer to the final dot, or the first that ended the dialogue. Silence is an answer
        with code 0.
        """
        if self._mails >= self._mails_max:
            self.close()
        is_reused = self._smtp is not None
        try:
            with self._deadline():
                try:
                    self._begin(parcel)
                except NoReply as silence:
                    if not is_reused or silence.answer.code not in {0, 421}:
                        raise
                    # it had been closed at the other end while it rested: that says nothing of this
                    # mail
                    self.close()
                    self._begin(parcel)
                answer = self._hand_over(parcel, at_final_dot)
        except NoReply as silence:
            answer = silence.answer
        self._mails += 1
        if answer.code // 100 != OK:
            self.close()
        return answer

    def close(self) -> None:
        smtp, self._smtp, self._mails = self._smtp, None, 0
        if smtp is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                if smtp.sock is not None:
                    smtp.sock.settimeout(min(1.0, self._timeout_s))  # politeness may not cost more
                smtp.docmd("QUIT")
            smtp.close()

    @contextlib.contextmanager
    def _deadline(self) -> Iterator[None]:
        """A server that drips a byte a second keeps every single wait short, and the dialogue
        endless: this ends it.
        """

        def cut() -> None:
            with contextlib.suppress(OSError, AttributeError):
                if self._smtp is not None and self._smtp.sock is not None:
                    self._smtp.sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self._deadline_s, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _begin(self, parcel: OutgoingMail) -> None:
        """As far as the server's word that the mail may come."""
        smtp = self._opened()
        options = [f"size={len(parcel.mail)}"] if smtp.has_extn("size") else []
        asked = ["NOTIFY=FAILURE,DELAY"] if smtp.has_extn("dsn") else []
        if smtp.has_extn("dsn"):
            options += ["RET=HDRS", f"ENVID={parcel.envelope_id}"]
        self._say("mail", lambda: smtp.mail(parcel.sender, options), OK)
        self._say("rcpt", lambda: smtp.rcpt(parcel.recipient, asked), OK)
        self._say("data", lambda: smtp.docmd("DATA"), GO_ON // 100)

    def _hand_over(self, parcel: OutgoingMail, at_final_dot: Callable[[], None]) -> SmtpReply:
        smtp = self._opened()
        mail = LEADING_DOT.sub(b"..", parcel.mail)
        try:
            smtp.send(mail if mail.endswith(b"\r\n") else mail + b"\r\n")
        except (OSError, smtplib.SMTPException) as error:
            raise NoReply(SmtpReply("data", 0, told(error))) from None
        try:
            smtp.send(b".\r\n")
            at_final_dot()
            code, text = smtp.getreply()
        except (OSError, smtplib.SMTPException) as error:
            raise NoReply(SmtpReply("end", 0, told(error))) from None
        return SmtpReply("end", code, readable(text))

    def _opened(self) -> smtplib.SMTP:
        smtp = self._smtp
        if smtp is None:
            smtp = self._connected()
            self._login(smtp)
        return smtp

    def _connected(self) -> smtplib.SMTP:
        where = self.where
        smtp = (StrictSmtpOverTls if where.is_encrypted else StrictSmtp)(where, self._timeout_s)
        self._smtp = smtp  # already now: the deadline has to reach its socket
        self._say("connect", lambda: smtp.connect(where.host, where.port), OK)
        if (
            smtp.sock is not None
        ):  # else the final dot waits 40 ms for the acknowledgement of what stands before it
            smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return smtp

    def _login(self, smtp: smtplib.SMTP) -> None:
        self._say("connect", smtp.ehlo, OK)
        try:
            if self.where.wants_starttls:
                code, text = smtp.starttls(context=ssl.create_default_context())
                if code // 100 != OK:
                    raise self._ended(SmtpReply("login", code, readable(text)))
                self._say("connect", smtp.ehlo, OK)
            if self.where.user:
                smtp.login(self.where.user, self.where.password)
        except smtplib.SMTPResponseException as error:
            raise self._ended(
                SmtpReply("login", error.smtp_code, readable(error.smtp_error))
            ) from None
        except smtplib.SMTPNotSupportedError as error:
            raise self._ended(SmtpReply("login", 530, told(error))) from None
        except (OSError, smtplib.SMTPException) as error:
            raise self._ended(SmtpReply("login", 0, told(error))) from None

    def _say(self, stage: Stage, what: Callable[[], tuple[int, bytes]], wanted: int) -> None:
        try:
            code, text = what()
        except (OSError, smtplib.SMTPException) as error:
            raise self._ended(SmtpReply(stage, 0, told(error))) from None
        if code // 100 != wanted:
            raise self._ended(SmtpReply(stage, code, readable(text)))

    def _ended(self, answer: SmtpReply) -> NoReply:
        self.close() if answer.code == 0 or answer.stage in {"connect", "login"} else None
        return NoReply(answer)


def readable(text: bytes | str) -> str:
    """A server's words, in one line and of bounded length."""
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return " ".join(said.split())[:300]


def told(error: Exception) -> str:
    return readable(f"{type(error).__name__}: {error}")

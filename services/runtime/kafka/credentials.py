"""Secrets and certificates of Kafka clients: read by reference, and read again when they change.

A changed password is handed to the running clients: their open connections live on, and the next
one uses it. A client cannot take another certificate or OAuth secret, so the process ends with a
code; its supervisor starts it with the new files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from services.runtime import files
from services.runtime.errors import Fatal
from services.runtime.kafka.settings import KafkaSettings
from services.runtime.observability import logs
from services.runtime.settings import ConfigurationError

CHECK_S = 2.0
SECRET_BYTES_MAX = 16 * 2**10
State = tuple[int, int, int]


class CredentialsChanged(Fatal):
    """A certificate, its key or an OAuth secret is another than the one that the process runs
    with.
    """

    code = "kafka-credentials-changed"
    next_step = (
        "None: the supervisor starts the process again, and it uses the new files. Nothing is lost."
    )


class SaslClient(Protocol):
    """A consumer, producer or admin client."""

    def set_sasl_credentials(self, username: str, password: str, /) -> None: ...


def secret(reference: str | None) -> str | None:
    """Return what `env:NAME` or `file:PATH` holds. Raises ConfigurationError, which never quotes
    it.
    """
    if reference is None:
        return None
    kind, _, place = reference.partition(":")
    if kind == "env":
        content = os.environ.get(place, "")
    else:
        try:
            content = files.read_text(Path(place), SECRET_BYTES_MAX).strip("\r\n")
        except files.FileUnusableError as error:
            raise ConfigurationError(f"{reference} cannot be used: {error}") from None
    if not content:
        raise ConfigurationError(f"{reference} is not set or empty")
    return content


class CredentialsWatch:
    """Compares the files of some clients with what they were, every two seconds. Used by one
    thread.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *clients: SaslClient,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._clients, self._clock = settings, list(clients), clock
        self._passwords = _secret_files(settings.password)
        self._restart = [
            *_secret_files(settings.key_password, settings.oauth_client_secret),
            *filter(None, (settings.ca_file, settings.certificate_file, settings.key_file)),
        ]
        is_needed = self._passwords or self._restart
        self._next_s = clock() + CHECK_S if is_needed else float("inf")
        self._password_state = _states(self._passwords)
        self._restart_state = self._seen = _states(self._restart)

    def replace(self, before: SaslClient, now: SaslClient) -> None:
        """Hand changed passwords to a new client instead of one that has ended."""
        self._clients[self._clients.index(before)] = now

    def refresh(self) -> None:
        """Compare the files, if that is due. Raises CredentialsChanged."""
        if (now := self._clock()) < self._next_s:
            return
        self._next_s = now + CHECK_S
        self._take_password()
        before, self._seen = self._seen, _states(self._restart)
        # Changed and then stable: a certificate and its key are written one after the other.
        if self._seen == before and self._seen != self._restart_state and None not in self._seen:
            names = ", ".join(
                str(file)
                for file, old, new in zip(
                    self._restart, self._restart_state, self._seen, strict=True
                )
                if old != new
            )
            raise CredentialsChanged(f"changed: {names}")

    def _take_password(self) -> None:
        if (state := _states(self._passwords)) == self._password_state:
            return
        log = logs.get("kafka")
        try:
            password = secret(self._settings.password)
        except ConfigurationError as error:  # it is just being replaced: the old one is used on
            log.warning("password file is unreadable", error=str(error))
            return
        self._password_state = state
        for client in self._clients:
            client.set_sasl_credentials(self._settings.user or "", password or "")
        log.info("password file was read again", user=self._settings.user)


def _secret_files(*references: str | None) -> list[Path]:
    return [
        Path(reference.removeprefix("file:"))
        for reference in references
        if reference and reference.startswith("file:")
    ]


def _states(paths: list[Path]) -> list[State | None]:
    return [_state(path) for path in paths]


def _state(path: Path) -> State | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino

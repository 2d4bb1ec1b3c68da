"""Server processes: started, found again by a later command, and stopped by their own id, never by
a name.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# Everything that a stack makes is for its owner alone.
CLOSED_FOLDER, CLOSED_FILE, UMASK = 0o700, 0o600, 0o077
LAUNCH = Path(__file__).with_name("launch.py")


class StackError(Exception):
    """The local stack cannot do what was requested; its text is for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, distinguished from a later one that got the same id."""

    pid: int
    started: int  # clock ticks since boot
    boot: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        fields = stat(pid)
        if not fields or fields[0] in "ZX":  # dead, and only not yet collected by its parent
            return None
        return cls(pid, int(fields[19]), boot_id())

    @classmethod
    def read(cls, file: Path) -> Identity | None:
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            return cls(**json.loads(file.read_text("utf-8")))
        return None

    def write(self, file: Path) -> None:
        replace_text(
            file, json.dumps({"pid": self.pid, "started": self.started, "boot": self.boot})
        )

    @property
    def alive(self) -> bool:
        return Identity.of(self.pid) == self

    def send(self, number: int) -> None:
        """Send through a pidfd, so that the id cannot pass to another process before the signal."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                if self.alive:
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)


def stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; none if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def freeze(pid: int) -> None:
    """Stop a process and return when it has stopped or ended; the signal alone returns earlier."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    wait_until(
        f"the halt of process {pid}",
        lambda: (stat(pid) or ["X"])[0] in "TtZX",
        seconds=5,
        pause=0.002,
    )


@cache
def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()


def replace_text(file: Path, text: str, mode: int = CLOSED_FILE) -> None:
    """Write a file whole or not at all, readable by its owner alone."""
    new = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(
        os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8"
    ) as out:
        out.write(text)
    new.replace(file)


def closed_folder(folder: Path) -> Path:
    """Make a folder and its missing parents for their owner alone: it holds mails and passwords."""
    if not folder.exists():
        closed_folder(folder.parent)
        folder.mkdir(mode=CLOSED_FOLDER, exist_ok=True)
    return folder


def wait_until(
    what: str, ready: Callable[[], bool], *, seconds: float, pause: float = 0.03
) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise StackError(f"{what} took more than {seconds:g} seconds")
        time.sleep(pause)


@cache
def spawner() -> ThreadPoolExecutor:
    """Return the one thread that forks all servers: the kernel sends a server its death signal when
    the thread that forked it ends, not the process.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="stack-spawner")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a server is started."""

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    death_signal: int = signal.SIGKILL
    user: tuple[int, int] | None = None  # uid and gid to drop to


class Server(ABC):
    """One server process of a stack. By its pid file another process finds it."""

    def __init__(self, name: str, state: Path, port: int, *, detached: bool) -> None:
        self.name = name
        self.port = port
        self.log_file = state / "logs" / f"{name}.log"
        self.pid_file = state / "run" / f"{name}.pid"
        self.detached = detached
        self._child: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> None:
        """Start it and return when it listens. If it runs already, nothing happens."""

    @abstractmethod
    def stop(self, *, immediate: bool = False) -> None:
        """End it and return when it has ended; `immediate` ends it as a crash would."""

    def pause(self) -> None:
        """Stop it in place: its connections stay open and nothing answers."""
        freeze(self.pid)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    @property
    def identity(self) -> Identity | None:
        if self._child is not None:
            self._child.poll()  # collects it, if it has ended
        known = Identity.read(self.pid_file)
        return known if known is not None and known.alive else None

    @property
    def running(self) -> bool:
        return self.identity is not None

    @property
    def pid(self) -> int:
        if (identity := self.identity) is None:
            raise StackError(f"{self.name} does not run")
        return identity.pid

    def spawn(self, plan: Plan) -> None:
        launch = [sys.executable, "-I", "-S", str(LAUNCH)]
        if not self.detached:
            launch += ["--parent", str(os.getpid()), "--signal", str(int(plan.death_signal))]
        if plan.user is not None:
            launch += ["--uid", str(plan.user[0]), "--gid", str(plan.user[1])]
        for folder in (self.log_file.parent, self.pid_file.parent):
            closed_folder(folder).chmod(CLOSED_FOLDER)
        self._child = spawner().submit(self._fork, [*launch, "--", *plan.command], plan).result()
        identity = Identity.of(self._child.pid)
        if identity is None:
            raise self.died()
        identity.write(self.pid_file)

    def _fork(self, command: list[str], plan: Plan) -> subprocess.Popen[bytes]:
        handle = os.open(
            self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, CLOSED_FILE
        )
        with os.fdopen(handle, "ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(plan.environment),
                cwd=plan.folder,
                umask=UMASK,
                # Ctrl-C is for the owner of the stack, which then stops the servers in order
                start_new_session=True,
            )

    def wait_ready(self, ready: Callable[[], bool], *, seconds: float = 60) -> None:
        def is_ready() -> bool:
            if not self.running:
                raise self.died()
            return ready()

        wait_until(
            f"the start of {self.name} (its log: {self.log_file})", is_ready, seconds=seconds
        )

    def died(self) -> StackError:
        lines = self.log_file.read_text("utf-8", "replace").splitlines()[-15:]
        return StackError(
            "\n".join(
                [f"{self.name} ended while it started; the last lines of {self.log_file}:", *lines]
            )
        )

    def send(self, number: int) -> None:
        if (identity := self.identity) is not None:
            identity.send(number)

    def end(self, number: int, *, seconds: float, then: int = signal.SIGKILL) -> None:
        """End it with one signal, and with the other if it has not ended in time."""
        self.send(number)
        try:
            wait_until(f"the end of {self.name}", lambda: not self.running, seconds=seconds)
        except StackError:
            self.send(then)
            wait_until(f"the end of {self.name}", lambda: not self.running, seconds=10)
        if self._child is not None:
            self._child.wait(timeout=10)
            self._child = None
        self.pid_file.unlink(missing_ok=True)

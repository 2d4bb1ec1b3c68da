"""The runtime's commands in `stubline`: migrations, topics, lanes, dead letters, controls, and how
all of it stands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from schemas.topics import GROUPS
from services.runtime import settings
from services.runtime.admin import cli_dead_letters, cli_lanes, cli_support, cli_topics
from services.runtime.admin.cli_support import Actor, AsJson, CommandId, ExitCode, Group
from services.runtime.admin.migrate import migrate as run_migrations
from services.runtime.errors import BrokerUnavailable
from services.runtime.kafka.topics import BrokerAdmin, PartitionExtent
from services.runtime.records import TIMER, LaneKey
from services.runtime.settings import Servers

app = typer.Typer(no_args_is_help=True)
app.add_typer(cli_lanes.app, name="lanes")
app.add_typer(cli_dead_letters.app, name="dead")
app.add_typer(cli_topics.app, name="topics")

STATUS = (
    "consumer_group",
    "lanes",
    "stopped",
    "lag",
    "uncommitted",
    "conservation_gap",
    "open_letters",
    "paused",
    "rate_limit_per_s",
    "why",
)
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate", min=0, help="Records a second for the whole service; 0 lifts the limit."
    ),
]
Why = Annotated[str | None, typer.Option("--reason", help="Why; shown by `stubline status`.")]


@app.command()
def migrate(
    *,
    post: Annotated[
        bool,
        typer.Option("--post", help="Also what may run only when no old release runs any more."),
    ] = False,
    database_only: Annotated[
        bool, typer.Option("--database-only", help="Leave the broker's topics alone.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Brings database, roles and topics to what this release needs. Safe to run again, and twice at
    once.
    """
    servers = settings.load(Servers)
    report = run_migrations(
        servers.database_url, None if database_only else cli_support.cluster(), post=post
    )
    done = [{"what": "database", "name": name, "change": "applied"} for name in report.applied]
    done += [
        {"what": "topic", "name": it.topic, "change": f"{it.what}: {it.found} -> {it.should}"}
        for it in report.topics
    ]
    cli_support.rows(done, ("what", "name", "change"), as_json=as_json, empty="nothing to do")


@app.command()
def restored(*, actor: Actor, command_id: CommandId, as_json: AsJson = False) -> None:
    """Run it once after the database was restored from a backup, before any service starts.

    The restored rows repeat sequences that were already published; a new generation outranks them
    all.
    """
    with cli_support.desk(actor, command_id) as desk:
        done = desk.restored()
    cli_support.told(
        done, f"The generation is {done.details.get('generation')}.", command_id, as_json=as_json
    )


@app.command()
def pause(
    *,
    group: Group,
    actor: Actor,
    command_id: CommandId,
    reason: Why = None,
    as_json: AsJson = False,
) -> None:
    """Stops a service within a second, until it is resumed. Kafka keeps what comes."""
    with cli_support.desk(actor, command_id) as desk:
        name = cli_support.group_of(desk.connection, group)
        done = desk.control(name, paused=True, rate=None, reason=reason)
    cli_support.told(done, f"{name} is paused.", command_id, as_json=as_json)


@app.command()
def resume(
    *,
    group: Group,
    actor: Actor,
    command_id: CommandId,
    rate: Rate = None,
    reason: Why = None,
    as_json: AsJson = False,
) -> None:
    """Lets a service go on, if asked at a limited rate."""
    with cli_support.desk(actor, command_id) as desk:
        name = cli_support.group_of(desk.connection, group)
        done = desk.control(name, paused=False, rate=rate, reason=reason)
    limit = done.details.get("rate_limit_per_s")
    cli_support.told(
        done,
        f"{name} goes on{f', at {limit:g} records a second' if limit else ''}.",
        command_id,
        as_json=as_json,
    )


@app.command()
def audit(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """What operators changed, the latest first."""
    with cli_support.reader() as reader:
        found = reader.audit(limit)
    cli_support.rows(
        found,
        ("at", "actor", "what", "details", "command_id"),
        as_json=as_json,
        empty="nobody changed anything",
    )


@app.command()
def status(*, as_json: AsJson = False) -> None:
    """Every service in a line. Exit code 1: a lane is stopped, records are unaccounted for, or a
    service braked itself.
    """
    with cli_support.reader() as reader:
        lanes, controls, letters = reader.lanes(), reader.controls(), reader.letter_counts()
    away: BrokerUnavailable | None = None
    try:
        ends = _ends(
            cli_support.broker(),
            {LaneKey(it["topic"], it["partition"]) for it in lanes},
        )
    except BrokerUnavailable as error:
        ends, away = None, error
    found = summary(lanes, controls, letters, ends)
    cli_support.rows(found, STATUS, as_json=as_json)
    if away is not None:
        raise away
    if any(it["stopped"] or it["conservation_gap"] or it["code"] for it in found):
        raise typer.Exit(ExitCode.REFUSED)


def _ends(broker: BrokerAdmin, lanes: set[LaneKey]) -> dict[LaneKey, PartitionExtent]:
    broker.brokers()  # somebody must answer, also where no lane asks yet
    return broker.ends(lanes - {TIMER})


def summary(
    lanes: list[dict[str, Any]],
    controls: list[dict[str, Any]],
    letters: list[dict[str, Any]],
    ends: dict[LaneKey, PartitionExtent] | None,
) -> list[dict[str, Any]]:
    """A line a group; without the broker's ends nobody knows the lag."""
    of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for lane in lanes:
        of[lane["consumer_group"]].append(lane)
    said = {control["consumer_group"]: control for control in controls}
    names = {group.name for group in GROUPS} | of.keys() | said.keys()
    found = []
    for name in sorted(names):
        mine, control = of[name], said.get(name, {})
        found.append(
            {
                "consumer_group": name,
                "lanes": len(mine),
                "stopped": sum(lane["stopped_code"] is not None for lane in mine),
                "lag": None if ends is None else _lag(mine, ends),
                "uncommitted": None if ends is None else _uncommitted(mine, ends),
                "conservation_gap": sum(abs(lane["conservation_gap"]) for lane in mine),
                "open_letters": sum(
                    it["letters"] for it in letters if it["consumer_group"] == name
                ),
                "paused": control.get("paused", False),
                "rate_limit_per_s": control.get("rate_limit_per_s"),
                "code": control.get("code") if control.get("paused") else None,
                "why": control.get("code") or control.get("reason"),
            }
        )
    return found


def _lag(lanes: list[dict[str, Any]], ends: dict[LaneKey, PartitionExtent]) -> int:
    """Up to where records may be read: what an open transaction holds back is no lag of the
    service.
    """
    return sum(max(0, it.readable - lane["next_offset"]) for lane, it in _standing(lanes, ends))


def _uncommitted(lanes: list[dict[str, Any]], ends: dict[LaneKey, PartitionExtent]) -> int:
    return sum(it.high - it.readable for _, it in _standing(lanes, ends))


def _standing(
    lanes: list[dict[str, Any]], ends: dict[LaneKey, PartitionExtent]
) -> Iterator[tuple[dict[str, Any], PartitionExtent]]:
    for lane in lanes:
        if (found := ends.get(LaneKey(lane["topic"], lane["partition"]))) is not None:
            yield lane, found

"""The runtime's commands in `stubline`: migrate, topics, lanes, dead letters, controls, status."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from schemas.topics import GROUPS
from services.runtime.admin import cli_dead_letters, cli_lanes, cli_support, cli_topics
from services.runtime.admin.cli_support import Actor, AsJson, CommandId, ExitCode, Group
from services.runtime.admin.migrate import migrate as run_migrations
from services.runtime.errors import BrokerUnavailable
from services.runtime.kafka.topics import BrokerAdmin, PartitionOffsets
from services.runtime.records import TIMER, LaneKey
from services.runtime.settings import Servers, load

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
    "open_dead_letters",
    "paused",
    "rate_limit_per_s",
    "reason",
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
    """Migrates database, roles and topics to what this release needs. It may run again, and twice
    at once.
    """
    servers = load(Servers)
    report = run_migrations(
        servers.database_url, None if database_only else cli_support.cluster(), post=post
    )
    done = [{"what": "database", "name": name, "change": "applied"} for name in report.applied]
    done += [
        {
            "what": "topic",
            "name": repaired.topic,
            "change": f"{repaired.what}: {repaired.actual} -> {repaired.expected}",
        }
        for repaired in report.topics
    ]
    cli_support.rows(done, ("what", "name", "change"), as_json=as_json, empty="nothing to do")


@app.command()
def restored(*, actor: Actor, command_id: CommandId, as_json: AsJson = False) -> None:
    """Run it once after the database was restored from a backup, before any service starts.

    The restored rows use sequences again that were already published; a new generation outranks
    them all.
    """
    with cli_support.admin_commands(actor, command_id) as commands:
        done = commands.restored()
    cli_support.report_result(
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
    """Pauses a service within a second, until it is resumed. Its input stays in Kafka."""
    with cli_support.admin_commands(actor, command_id) as commands:
        name = cli_support.group_of(commands.connection, group)
        done = commands.control(name, paused=True, rate=None, reason=reason)
    cli_support.report_result(done, f"{name} is paused.", command_id, as_json=as_json)


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
    """Resumes a service, optionally at a limited rate."""
    with cli_support.admin_commands(actor, command_id) as commands:
        name = cli_support.group_of(commands.connection, group)
        done = commands.control(name, paused=False, rate=rate, reason=reason)
    limit = done.details.get("rate_limit_per_s")
    cli_support.report_result(
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
    with cli_support.admin_queries() as queries:
        changes = queries.audit(limit)
    cli_support.rows(
        changes,
        ("at", "actor", "what", "details", "command_id"),
        as_json=as_json,
        empty="no changes",
    )


@app.command()
def status(*, as_json: AsJson = False) -> None:
    """Every service in a line. Exit code 1: a lane is stopped, records have no outcome, or a
    service paused itself.
    """
    with cli_support.admin_queries() as queries:
        lanes, controls, dead_letters = (
            queries.lanes(),
            queries.controls(),
            queries.dead_letter_counts(),
        )
    broker_error: BrokerUnavailable | None = None
    try:
        ends = _ends(
            cli_support.broker(),
            {LaneKey(lane["topic"], lane["partition"]) for lane in lanes},
        )
    except BrokerUnavailable as error:
        ends, broker_error = None, error
    groups = summary(lanes, controls, dead_letters, ends)
    cli_support.rows(groups, STATUS, as_json=as_json)
    if broker_error is not None:
        raise broker_error
    if any(group["stopped"] or group["conservation_gap"] or group["code"] for group in groups):
        raise typer.Exit(ExitCode.REFUSED)


def _ends(broker: BrokerAdmin, lanes: set[LaneKey]) -> dict[LaneKey, PartitionOffsets]:
    broker.brokers()  # the broker must respond, even if there is no lane yet
    return broker.ends(lanes - {TIMER})


def summary(
    lanes: list[dict[str, Any]],
    controls: list[dict[str, Any]],
    dead_letters: list[dict[str, Any]],
    ends: dict[LaneKey, PartitionOffsets] | None,
) -> list[dict[str, Any]]:
    """Return a line per group. Without the broker's ends the lag is unknown."""
    of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for lane in lanes:
        of[lane["consumer_group"]].append(lane)
    control_of = {control["consumer_group"]: control for control in controls}
    names = {group.name for group in GROUPS} | of.keys() | control_of.keys()
    groups = []
    for name in sorted(names):
        mine, control = of[name], control_of.get(name, {})
        groups.append(
            {
                "consumer_group": name,
                "lanes": len(mine),
                "stopped": sum(lane["stopped_code"] is not None for lane in mine),
                "lag": None if ends is None else _lag(mine, ends),
                "uncommitted": None if ends is None else _uncommitted(mine, ends),
                "conservation_gap": sum(abs(lane["conservation_gap"]) for lane in mine),
                "open_dead_letters": sum(
                    count["dead_letters"]
                    for count in dead_letters
                    if count["consumer_group"] == name
                ),
                "paused": control.get("paused", False),
                "rate_limit_per_s": control.get("rate_limit_per_s"),
                "code": control.get("code") if control.get("paused") else None,
                "reason": control.get("code") or control.get("reason"),
            }
        )
    return groups


def _lag(lanes: list[dict[str, Any]], ends: dict[LaneKey, PartitionOffsets]) -> int:
    """Count up to where records may be read: what an open transaction holds back is not lag."""
    return sum(
        max(0, offsets.end_offset - lane["next_offset"])
        for lane, offsets in _with_offsets(lanes, ends)
    )


def _uncommitted(lanes: list[dict[str, Any]], ends: dict[LaneKey, PartitionOffsets]) -> int:
    return sum(
        offsets.high_watermark - offsets.end_offset for _, offsets in _with_offsets(lanes, ends)
    )


def _with_offsets(
    lanes: list[dict[str, Any]], ends: dict[LaneKey, PartitionOffsets]
) -> Iterator[tuple[dict[str, Any], PartitionOffsets]]:
    for lane in lanes:
        if (offsets := ends.get(LaneKey(lane["topic"], lane["partition"]))) is not None:
            yield lane, offsets

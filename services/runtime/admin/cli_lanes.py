"""`stubline lanes`: where the lanes stand, and the commands that get a stopped one going again."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from services.runtime.admin import cli_support
from services.runtime.admin.cli_support import Actor, AsJson, CommandId, Group, GroupOption
from services.runtime.admin.commands import AdminQueries, described
from services.runtime.admin.refusals import TopicUnknown
from services.runtime.kafka.topics import PartitionExtent
from services.runtime.records import TIMER, LaneKey

app = typer.Typer(
    no_args_is_help=True, help="Lanes: where each stands, and how a stopped one goes on."
)

Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="As `stubline lanes list` shows it.")]
Partition = Annotated[int, typer.Argument(metavar="PARTITION", min=0)]
Reason = Annotated[str, typer.Option("--reason", min=1, help="Why; stands in the audit.")]
POSITION = ("consumer_group", "topic", "partition", "epoch", "next_offset")
OUTCOMES = ("effects", "duplicates", "superseded", "dead", "conservation_gap")
STATE = ("stopped_code", "stopped_text", "owner", "updated_at")
OUTPUT = ("number", "topic", "key", "bytes", "sha256", "ce_id")


@app.command("list")
def list_lanes(*, group: GroupOption = None, as_json: AsJson = False) -> None:
    """All lanes. The conservation gap must be zero; a stopped code says what is needed."""
    with cli_support.connected() as connection:
        chosen = cli_support.group_of(connection, group) if group else None
        lanes = AdminQueries(connection).lanes(chosen)
    cli_support.rows(
        lanes,
        (*POSITION, *OUTCOMES, *STATE),
        as_json=as_json,
        empty="no lane yet: no service has run here",
    )


@app.command()
def rewind(
    *,
    group: Group,
    topic: Topic,
    partition: Partition,
    to: Annotated[
        int,
        typer.Option(
            "--to", min=0, help="The offset to read from. Where the lane is: only starts it again."
        ),
    ],
    actor: Actor,
    command_id: CommandId,
    as_json: AsJson = False,
) -> None:
    """Reads records again. What was worked stays as it is: each is judged by its sequence."""
    lane = LaneKey(topic, partition)
    extent = _extent(lane)
    with cli_support.desk(actor, command_id) as desk:
        done = desk.rewind(cli_support.group_of(desk.connection, group), lane, to=to, extent=extent)
    cli_support.told(
        done, f"{topic}/{partition} starts again at {to}.", command_id, as_json=as_json
    )


@app.command()
def skip(
    *,
    group: Group,
    topic: Topic,
    partition: Partition,
    reason: Reason,
    actor: Actor,
    command_id: CommandId,
    to: Annotated[
        int | None,
        typer.Option(
            "--to", min=0, help="The offset to go on at; else the first that the topic still holds."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Goes forward over records, which then have no outcome here. They are counted as gaps."""
    lane = LaneKey(topic, partition)
    extent = _extent(lane)
    with cli_support.desk(actor, command_id) as desk:
        done = desk.skip(
            cli_support.group_of(desk.connection, group), lane, to=to, extent=extent, reason=reason
        )
    moved = "".join(
        f"{topic}/{partition}: {it['from']} -> {it['to']}." for it in done.details.get("lanes", ())
    )
    cli_support.told(done, moved, command_id, as_json=as_json)


@app.command("outputs")
def list_outputs(
    *,
    group: Group,
    topic: Topic,
    partition: Partition,
    raw: Annotated[
        int | None,
        typer.Option(
            "--raw", metavar="N", min=0, help="Only the value of output N, as it is, for a file."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What the lane's row holds: committed, and perhaps not yet taken by the broker. Keep a copy
    before one is dropped.
    """
    with cli_support.connected() as connection:
        outputs = AdminQueries(connection).outputs(
            cli_support.group_of(connection, group), LaneKey(topic, partition)
        )
    if raw is None:
        found = [described(number, output) for number, output in enumerate(outputs)]
        cli_support.rows(found, OUTPUT, as_json=as_json, empty="the row holds no outputs")
    elif raw < len(outputs):
        sys.stdout.buffer.write(outputs[raw].value or b"")
    else:
        raise typer.BadParameter(
            f"the row holds {len(outputs)} outputs, numbered from 0", param_hint="--raw"
        )


@app.command("drop-output")
def drop_output(
    *,
    group: Group,
    topic: Topic,
    partition: Partition,
    number: Annotated[
        int,
        typer.Option(
            "--number", min=0, help="Which one, as `stubline lanes outputs` numbers them."
        ),
    ],
    reason: Reason,
    actor: Actor,
    command_id: CommandId,
    as_json: AsJson = False,
) -> None:
    """Drops an output that the broker refuses for good, and starts the lane again. Its readers
    never get it.
    """
    lane = LaneKey(topic, partition)
    with cli_support.desk(actor, command_id) as desk:
        done = desk.drop_output(cli_support.group_of(desk.connection, group), lane, number, reason)
    left = done.details.get("left")
    cli_support.told(
        done,
        f"Dropped; {left} outputs of {topic}/{partition} are published.",
        command_id,
        as_json=as_json,
    )


@app.command("accept-topic")
def accept_topic(
    *, group: Group, topic: Topic, actor: Actor, command_id: CommandId, as_json: AsJson = False
) -> None:
    """Begins a topic that was deleted and made again at its first record."""
    broker = cli_support.broker()
    existing = broker.existing([topic]).get(topic)
    if existing is None:
        raise TopicUnknown(topic)
    extents = broker.extents(topic)
    with cli_support.desk(actor, command_id) as desk:
        done = desk.accept_topic(
            cli_support.group_of(desk.connection, group), topic, existing.topic_id, extents
        )
    lanes = len(done.details.get("lanes", ()))
    cli_support.told(
        done, f"{lanes} lanes of {topic} begin at its first record.", command_id, as_json=as_json
    )


def _extent(lane: LaneKey) -> PartitionExtent | None:
    return None if lane == TIMER else cli_support.broker().extents(lane.topic).get(lane.partition)

"""`stubline lanes`: shows lanes, and starts stopped ones again."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from services.runtime.admin import cli_support
from services.runtime.admin.cli_support import Actor, AsJson, CommandId, Group, GroupOption
from services.runtime.admin.commands import AdminQueries, output_summary
from services.runtime.admin.refusals import TopicUnknown
from services.runtime.kafka.topics import PartitionOffsets
from services.runtime.records import TIMER, LaneKey

app = typer.Typer(
    no_args_is_help=True, help="Lanes: show their positions, and start stopped ones again."
)

Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="As `stubline lanes list` shows it.")]
Partition = Annotated[int, typer.Argument(metavar="PARTITION", min=0)]
Reason = Annotated[str, typer.Option("--reason", min=1, help="Why; kept in the audit.")]
POSITION = ("consumer_group", "topic", "partition", "epoch", "next_offset")
OUTCOMES = ("effects", "duplicates", "superseded", "dead", "conservation_gap")
STATE = ("stopped_code", "stopped_text", "owner", "updated_at")
OUTPUT = ("number", "topic", "key", "bytes", "sha256", "ce_id")


@app.command("list")
def list_lanes(*, group: GroupOption = None, as_json: AsJson = False) -> None:
    """Lists lanes. The conservation gap must be zero; a stopped code names what is needed."""
    with cli_support.connected() as connection:
        chosen = cli_support.group_of(connection, group) if group else None
        lanes = AdminQueries(connection).lanes(chosen)
    cli_support.rows(
        lanes,
        (*POSITION, *OUTCOMES, *STATE),
        as_json=as_json,
        empty="no lanes: no service has run here",
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
            "--to",
            min=0,
            help="The offset to read from. The lane's own offset only starts it again.",
        ),
    ],
    actor: Actor,
    command_id: CommandId,
    as_json: AsJson = False,
) -> None:
    """Reads records again. They change nothing twice: each is compared by its sequence."""
    lane = LaneKey(topic, partition)
    offsets = _offsets_of(lane)
    with cli_support.admin_commands(actor, command_id) as commands:
        done = commands.rewind(
            cli_support.group_of(commands.connection, group), lane, to=to, offsets=offsets
        )
    cli_support.report_result(
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
            "--to",
            min=0,
            help="The offset to go on at. Default: the first that the topic still holds.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Skips records, which then have no outcome here. They are counted as gaps."""
    lane = LaneKey(topic, partition)
    offsets = _offsets_of(lane)
    with cli_support.admin_commands(actor, command_id) as commands:
        done = commands.skip(
            cli_support.group_of(commands.connection, group),
            lane,
            to=to,
            offsets=offsets,
            reason=reason,
        )
    moved = "".join(
        f"{topic}/{partition}: {lane['from']} -> {lane['to']}."
        for lane in done.details.get("lanes", ())
    )
    cli_support.report_result(done, moved, command_id, as_json=as_json)


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
    """Lists the outputs in the lane's row: committed, perhaps not yet acknowledged by the broker.
    Keep a copy before you drop one.
    """
    with cli_support.connected() as connection:
        outputs = AdminQueries(connection).outputs(
            cli_support.group_of(connection, group), LaneKey(topic, partition)
        )
    if raw is None:
        summaries = [output_summary(number, output) for number, output in enumerate(outputs)]
        cli_support.rows(summaries, OUTPUT, as_json=as_json, empty="the row holds no outputs")
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
    """Drops an output that the broker will never take, and starts the lane again. Its readers never
    get it.
    """
    lane = LaneKey(topic, partition)
    with cli_support.admin_commands(actor, command_id) as commands:
        done = commands.drop_output(
            cli_support.group_of(commands.connection, group), lane, number, reason
        )
    left = done.details.get("left")
    cli_support.report_result(
        done,
        f"Dropped; {left} outputs of {topic}/{partition} are published.",
        command_id,
        as_json=as_json,
    )


@app.command("accept-topic")
def accept_topic(
    *, group: Group, topic: Topic, actor: Actor, command_id: CommandId, as_json: AsJson = False
) -> None:
    """Starts a topic that was deleted and created again at its first record."""
    broker = cli_support.broker()
    description = broker.existing([topic]).get(topic)
    if description is None:
        raise TopicUnknown(topic)
    offsets_by_partition = broker.partition_offsets(topic)
    with cli_support.admin_commands(actor, command_id) as commands:
        done = commands.accept_topic(
            cli_support.group_of(commands.connection, group),
            topic,
            description.topic_id,
            offsets_by_partition,
        )
    lanes = len(done.details.get("lanes", ()))
    cli_support.report_result(
        done, f"{lanes} lanes of {topic} start at its first record.", command_id, as_json=as_json
    )


def _offsets_of(lane: LaneKey) -> PartitionOffsets | None:
    return (
        None
        if lane == TIMER
        else cli_support.broker().partition_offsets(lane.topic).get(lane.partition)
    )

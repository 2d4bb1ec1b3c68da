"""Why an operator's command is not carried out; nothing was changed.

CommandRefused  the command does not apply in the present state
TargetUnknown   what the command names does not exist
"""

from __future__ import annotations

from services.runtime.errors import StublineError


class CommandRefused(StublineError):
    """The command does not apply in the present state; nothing was changed."""


class TargetUnknown(StublineError):
    """The command names something that does not exist; nothing was changed."""


class CommandReused(CommandRefused):
    """The command id belongs to another command, so it does not show whether this one was carried
    out.
    """

    code = "command-id-reused"
    next_step = (
        "Omit `--command-id`, or use another one. The same id is for the same command sent again."
    )


class GroupUnknown(TargetUnknown):
    """No service of that name has run here."""

    code = "group-unknown"
    next_step = "`stubline status` lists the groups. `ingest` is short for `stubline.ingest`."


class LaneUnknown(TargetUnknown):
    """There is no row for that group, topic and partition."""

    code = "lane-unknown"
    next_step = (
        "`stubline lanes list` shows all lanes. A lane gets its row when a service first owns its "
        "partition."
    )


class TopicUnknown(TargetUnknown):
    """The broker has no such topic or partition."""

    code = "topic-unknown"
    next_step = (
        "`stubline topics check` compares the broker with what is needed, `stubline migrate` "
        "creates what is missing."
    )


class DeadLetterUnknown(TargetUnknown):
    """There is no dead letter of that id."""

    code = "dead-letter-unknown"
    next_step = "`stubline dead list` shows the ids. Stubline never deletes a dead letter."


class LaneOffsetRefused(CommandRefused):
    """The lane cannot be moved to that offset."""

    code = "lane-move-refused"
    next_step = (
        "`stubline lanes list` shows where the lane is. `stubline lanes rewind` moves it back, not "
        "before the first offset that the topic still holds; `stubline lanes skip` moves it "
        "forward, not beyond the end."
    )


class OutputDropRefused(CommandRefused):
    """Only an output that the broker refused can be dropped, and only while its lane is stopped."""

    code = "output-drop-refused"
    next_step = (
        "`stubline lanes list` shows whether the lane is stopped with `lane-output-refused`, "
        "`stubline lanes outputs GROUP TOPIC PARTITION` the outputs in its row, by number."
    )


class NothingToAccept(CommandRefused):
    """The lanes of the group already know the topic's present id."""

    code = "topic-accept-refused"
    next_step = (
        "None: the topic was not re-created. `stubline lanes list` shows why a lane is stopped."
    )


class DeadLetterNotReplayable(CommandRefused):
    """The dead letter's record is larger than a topic takes, or only its first part was kept."""

    code = "dead-letter-not-replayable"
    next_step = (
        "`stubline dead show ID` prints the record's topic, partition and offset, where it is "
        "until retention deletes it. Have its source send it again, smaller; then `stubline dead "
        "discard ID --reason ...`."
    )


class DeadLetterStateRefused(CommandRefused):
    """A dead letter in that state cannot be replayed or discarded."""

    code = "dead-letter-state-refused"
    next_step = (
        "Replay takes dead letters that are open or replayed, discard takes all that are not "
        "resolved. A resolved one had its effect, and would have it twice."
    )

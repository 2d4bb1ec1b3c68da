"""Why an operator's command is not carried out. Refused: nothing was changed. Unknown: what it
names does not exist.
"""

from __future__ import annotations

from services.runtime.errors import StublineError


class CommandRefused(StublineError):
    """The command makes no sense as things stand; nothing was changed."""


class TargetUnknown(StublineError):
    """The command names what is not there; nothing was changed."""


class CommandReused(CommandRefused):
    """The command id belongs to another command, so it cannot say whether this one was carried
    out.
    """

    code = "command-id-reused"
    next_step = (
        "Leave `--command-id` out, or give each command its own. The same id is for the "
        "same command sent again."
    )


class GroupUnknown(TargetUnknown):
    """No service of that name has ever run here."""

    code = "group-unknown"
    next_step = "`stubline status` lists the groups. `ingest` is short for `stubline.ingest`."


class LaneUnknown(TargetUnknown):
    """There is no row for that group, topic and partition."""

    code = "lane-unknown"
    next_step = (
        "`stubline lanes list` shows all lanes. A lane begins when a service first owns "
        "its partition."
    )


class TopicUnknown(TargetUnknown):
    """The broker has no such topic or partition."""

    code = "topic-unknown"
    next_step = (
        "`stubline topics check` compares the broker with what is needed, `stubline "
        "migrate` makes what is missing."
    )


class DeadLetterUnknown(TargetUnknown):
    """There is no dead letter of that id."""

    code = "dead-letter-unknown"
    next_step = "`stubline dead list` shows the ids. A letter is never deleted by Stubline."


class MoveRefused(CommandRefused):
    """The lane cannot go to that offset."""

    code = "lane-move-refused"
    next_step = (
        "`stubline lanes list` shows where the lane is. Back: `stubline lanes rewind`, not below "
        "the first offset that the topic "
        "still holds. Forward: `stubline lanes skip`, not beyond its end."
    )


class OutputDropRefused(CommandRefused):
    """Only an output that the broker refused can be dropped, and only while its lane stands
    still.
    """

    code = "output-drop-refused"
    next_step = (
        "`stubline lanes list` shows whether the lane is stopped with `lane-output-refused`, "
        "`stubline lanes outputs GROUP "
        "TOPIC PARTITION` the outputs in its row, by number."
    )


class NothingToAccept(CommandRefused):
    """The lanes of the group know the topic by the id that it has."""

    code = "topic-accept-refused"
    next_step = (
        "None: the topic is the one that the lanes know. `stubline lanes list` shows why "
        "a lane is stopped."
    )


class DeadLetterNotReplayable(CommandRefused):
    """The letter's record is larger than a topic takes, or only its first part was kept."""

    code = "dead-letter-not-replayable"
    next_step = (
        "`stubline dead show ID` prints the record's topic, partition and offset, where it stands "
        "until retention takes it. "
        "Have its source send it again, smaller; then `stubline dead discard ID --reason ...`."
    )


class DeadLetterStateRefused(CommandRefused):
    """A letter in that state cannot be asked for or closed."""

    code = "dead-letter-state-refused"
    next_step = (
        "Replay is for letters that are open or replayed, discard for all that are not resolved. "
        "A resolved one had its effect: "
        "to work it again would have it twice."
    )

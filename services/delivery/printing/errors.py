"""The errors of printing. Poison: the text or the design cannot be printed. Transient: the machine
lacks something, and the job waits.

    Poison
        DesignUnusable              a design that cannot be printed
            DesignUnknown           a name or a language that no design has
        TextUnprintable             one order's text that cannot be laid out
    Transient
        LayoutUnavailable           no process that lays out can be started
        PlatesFolderUnusable        compiled designs cannot be stored
        PlateUnreadable             a compiled design that is not what was written
    CommandRefused
        DesignNotMade               `stubline design new` wrote nothing
"""

from __future__ import annotations

from services.runtime.admin.refusals import CommandRefused, TargetUnknown
from services.runtime.errors import Poison, Transient

REPLAY = "then `stubline dead replay ID`: the job is due again, with the same Message-ID"


class DesignUnusable(Poison):
    """A ticket design that cannot be printed. The message names file, line and fault."""

    code = "delivery-design-unusable"
    next_step = (
        "Fix what the message names, check with `stubline design check FOLDER` that it holds, and "
        "put the folder where STUBLINE_DELIVERY_DESIGNS_FOLDER points on every sender. Jobs are "
        "retried by themselves; dead letters: `stubline dead replay ID`."
    )


class DesignUnknown(DesignUnusable, TargetUnknown):
    """A campaign names a design that is not installed, or a language that the design lacks."""

    code = "delivery-design-unknown"
    next_step = (
        "`stubline design list` shows the designs with their languages. Put the folder where "
        "STUBLINE_DELIVERY_DESIGNS_FOLDER points on every sender, or give the campaign another "
        "design or language with `stubline campaigns apply`."
    )


class TextUnprintable(Poison):
    """A name or another text of this order cannot be laid out in its design: it takes too much time
    or memory, or WeasyPrint fails on it.
    """

    code = "delivery-text-unprintable"
    next_step = (
        "`stubline dead show ID` names the design, the fields and the cause. Have the text "
        "corrected at the shop and wait until `stubline deliveries show ORDER` shows it, or make "
        f"the design lighter, {REPLAY}."
    )


class LayoutUnavailable(Transient):
    """The layout process cannot be started, or ends before its first request: no memory, no
    library, no rights.
    """

    code = "delivery-layout-unavailable"
    next_step = (
        "The cause names what is missing; check whether this machine has memory and processes "
        "left. Texts that can be stamped are still printed; the other jobs are retried by "
        "themselves."
    )


class PlatesFolderUnusable(Transient):
    """The folder for compiled designs cannot be created, or this user may not write it."""

    code = "delivery-plates-folder-unusable"
    next_step = (
        "Set STUBLINE_DELIVERY_PLATES_FOLDER to a folder by its absolute path that this user may "
        "write. It may be empty: designs are compiled again."
    )


class PlateUnreadable(Transient):
    """A compiled design on disk is not what was written: it is truncated, or of another release."""

    code = "delivery-plate-unreadable"
    next_step = (
        "None: it is removed and compiled again. If it recurs, check the disk of "
        "STUBLINE_DELIVERY_PLATES_FOLDER."
    )


class DesignNotMade(CommandRefused):
    """`stubline design new` was given an unusable name, or a folder that exists already."""

    code = "delivery-design-not-made"
    next_step = (
        "Choose a name of lower-case letters, digits and hyphens whose folder does not exist yet: "
        "`stubline design new NAME`. Nothing was written."
    )

"""Why a campaign is not applied or found."""

from __future__ import annotations

from services.runtime.admin.refusals import CommandRefused, TargetUnknown


class CampaignFileInvalid(CommandRefused):
    """The file does not say campaigns: a key that nobody knows, a value out of its bounds,
    something missing.
    """

    code = "campaign-file-invalid"
    next_step = (
        "The text names file, campaign, key and remedy for each problem. Mend them all, then "
        "`stubline campaigns apply FILE` "
        "again: nothing was changed."
    )


class CampaignRefused(CommandRefused):
    """The file is well formed, but a campaign may not become what it says: its tickets or another
    campaign stand against it.
    """

    code = "campaign-refused"
    next_step = (
        "`stubline campaigns show CAMPAIGN` prints how it stands. What the text says is fixed "
        "needs a campaign with an id of its "
        "own; a product must leave its campaign before another takes it. Nothing was changed."
    )


class CampaignUnknown(TargetUnknown):
    """There is no campaign of that id."""

    code = "campaign-unknown"
    next_step = (
        "`stubline campaigns list` shows the ids. A campaign begins with `stubline "
        "campaigns apply FILE`."
    )

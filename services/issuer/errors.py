"""Errors of the issuer's commands.

CommandRefused
├── CampaignFileInvalid   the file is malformed
└── CampaignRefused       a campaign may not become what the file defines
TargetUnknown
└── CampaignUnknown       no campaign has that id
"""

from __future__ import annotations

from services.runtime.admin.refusals import CommandRefused, TargetUnknown


class CampaignFileInvalid(CommandRefused):
    """The file of campaigns is malformed: an unknown key, a value out of its bounds, or something
    missing.
    """

    code = "campaign-file-invalid"
    next_step = (
        "The text names the file, the campaign, the key and the remedy of each problem. Fix them "
        "all and run `stubline campaigns apply FILE` again. Nothing was changed."
    )


class CampaignRefused(CommandRefused):
    """The file is well formed, but a campaign may not become what it defines, because of its
    tickets or of another campaign.
    """

    code = "campaign-refused"
    next_step = (
        "`stubline campaigns show CAMPAIGN` prints the campaign as it is. What the text calls "
        "fixed needs a campaign with an id of its own. A product must leave its campaign before "
        "another takes it. Nothing was changed."
    )


class CampaignUnknown(TargetUnknown):
    """There is no campaign of that id."""

    code = "campaign-unknown"
    next_step = (
        "`stubline campaigns list` shows the ids. `stubline campaigns apply FILE` creates a "
        "campaign."
    )

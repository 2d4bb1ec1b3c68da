"""Why a mail could not be handed over. Poison: the job becomes a letter. Transient: the server's
fault, every job waits.
"""

from __future__ import annotations

from services.runtime.admin.refusals import CommandRefused, TargetUnknown
from services.runtime.errors import Poison, Transient

GIVE_BACK = "then `stubline dead replay ID`: the job is due again, with the same Message-ID"


class Undeliverable(Poison):
    """As things stand its mail can never be handed over: its job becomes a letter."""


class RecipientUnusable(Undeliverable):
    """The order has no e-mail address, or one that no mail can be sent to."""

    code = "delivery-recipient-unusable"
    next_step = (
        "`stubline dead show ID` names the order. Have the address corrected at the shop, wait "
        "until `stubline deliveries show "
        f"ORDER` shows it, {GIVE_BACK}."
    )


class AddressRefused(Undeliverable):
    """The mail server knows no such mailbox, or it takes no mail (550 5.1, 551, 553, 521, 556)."""

    code = "delivery-address-refused"
    next_step = (
        "`stubline dead show ID` quotes the server. Have the address corrected at the shop, wait "
        "until `stubline deliveries "
        f"show ORDER` shows it, {GIVE_BACK}."
    )


class PolicyRefused(Undeliverable):
    """The mail server refuses us, or what we write, by policy (5.7): a blocklist, a missing
    signature, taken for spam.
    """

    code = "delivery-policy-refused"
    next_step = (
        "The address may be right. `stubline dead show ID` quotes the server: mend SPF, DKIM, the "
        "sender address or our name on "
        f"a blocklist, {GIVE_BACK}."
    )


class MailRefused(Undeliverable):
    """The mail server refuses this mail for good, for another reason: a full mailbox, its size, its
    content.
    """

    code = "delivery-mail-refused"
    next_step = f"`stubline dead show ID` quotes the server. Mend what it names, {GIVE_BACK}."


class MailUnsound(Undeliverable):
    """The bytes of the mail, parsed anew before sending, are not the mail that was meant: a header,
    an address, a part.
    """

    code = "delivery-mail-unsound"
    next_step = (
        "Nothing was sent. `stubline dead show ID` says what differs. It is a defect of the "
        "release: deploy one without it, "
        f"{GIVE_BACK}."
    )


class DialogueRefused(Undeliverable):
    """The mail server did not understand us (500 to 504, 555). A defect of ours, or a server that
    is none.
    """

    code = "delivery-dialogue-refused"
    next_step = (
        "`stubline dead show ID` quotes the server. See whether STUBLINE_DELIVERY_SMTP_URL names "
        "a mail server; else it is a "
        f"defect: deploy a release without it, {GIVE_BACK}."
    )


class RetriesExhausted(Undeliverable):
    """As many failures, or as old, as the settings allow."""

    code = "delivery-gave-up"
    next_step = (
        f"`stubline dead show ID` quotes the last answer. When its cause is gone, {GIVE_BACK}."
    )


class RenderFailed(Undeliverable):
    """The PDF or the mail could not be made of this order."""

    code = "delivery-render-failed"
    next_step = (
        f"A defect of the release, found by this order's data: mend it, deploy, {GIVE_BACK}."
    )


class TextUnprintable(Undeliverable):
    """A name or another text of this order cannot be laid out in its design: it takes too much, or
    WeasyPrint fails on it.
    """

    code = "delivery-text-unprintable"
    next_step = (
        "`stubline dead show ID` names the design, the fields and why. Have the text corrected at "
        "the shop and wait until `stubline "
        f"deliveries show ORDER` shows it, or make the design lighter, {GIVE_BACK}."
    )


class LayoutUnavailable(Transient):
    """The process that lays out cannot be started, or ends before it could be asked: no memory, no
    library, no rights.
    """

    code = "delivery-layout-away"
    next_step = (
        "See in the cause what is missing, and whether this machine has memory and processes "
        "left. What can be stamped goes "
        "on; jobs that cannot try again by themselves."
    )


class MailServerUnavailable(Transient):
    """The mail server does not answer, or closes the door (421). Jobs wait; none is given up for
    it.
    """

    code = "delivery-server-away"
    next_step = (
        "See whether the server of STUBLINE_DELIVERY_SMTP_URL runs and answers. Senders "
        "try again by themselves."
    )


class MailServerLoginRefused(Transient):
    """The mail server wants another login than ours (530, 534, 535, 538), or encryption that it
    does not offer.
    """

    code = "delivery-server-refuses-us"
    next_step = (
        "Correct user and password in STUBLINE_DELIVERY_SMTP_URL and start the senders "
        "anew. No job is given up for it."
    )


class SmtpUrlUnusable(Transient):
    """STUBLINE_DELIVERY_SMTP_URL is not set, or says what cannot be done."""

    code = "delivery-smtp-url-unusable"
    next_step = "Set it to `smtp://[user:password@]host:port`, with `?starttls=required`, or to `smtps://...`."


class DesignUnusable(Poison):
    """A ticket design that cannot be printed as it is: the message names file, line and what is
    wrong.
    """

    code = "delivery-design-unusable"
    next_step = (
        "Mend what the message names, see with `stubline design check FOLDER` that it holds, and "
        "put the folder where "
        "STUBLINE_DELIVERY_DESIGNS_FOLDER points on every sender. Jobs try again by themselves; "
        "letters: `stubline dead replay ID`."
    )


class DesignUnknown(DesignUnusable, TargetUnknown):
    """A campaign names a design that this installation does not have, or a language that the design
    does not have.
    """

    code = "delivery-design-unknown"
    next_step = (
        "`stubline design list` shows the designs with their languages. Put the folder where "
        "STUBLINE_DELIVERY_DESIGNS_FOLDER points "
        "on every sender, or give the campaign another design or language with `stubline "
        "campaigns apply`."
    )


class DesignNotMade(CommandRefused):
    """`stubline design new` was given a name that no campaign could say, or a folder that stands
    already.
    """

    code = "delivery-design-not-made"
    next_step = (
        "Choose a name of small letters, digits and hyphens whose folder is not there yet: "
        "`stubline design new NAME`. "
        "Nothing was written."
    )


class PlatesFolderUnusable(Transient):
    """The folder for compiled designs cannot be made, or not be written by us."""

    code = "delivery-plates-folder-unusable"
    next_step = (
        "Set STUBLINE_DELIVERY_PLATES_FOLDER to a folder by its whole path that this user may "
        "write. It may be empty: "
        "designs are compiled again."
    )


class PlateUnreadable(Transient):
    """A compiled design on disk is not what was written: cut off, or of another release. It is
    compiled anew.
    """

    code = "delivery-plate-unreadable"
    next_step = (
        "None: it is removed and compiled again. Seen often, the disk of "
        "STUBLINE_DELIVERY_PLATES_FOLDER is to be looked at."
    )


class FileMissing(Transient):
    """A file that has been rendered before is not in the content store any more."""

    code = "delivery-file-missing"
    next_step = (
        "None: it is rendered again, with the same bytes. Many: senders do not share one store, "
        "or somebody empties it; see "
        "STUBLINE_DELIVERY_FILES_URL on each."
    )


class FileDamaged(Transient):
    """A file in the content store is not what its name says: cut off, or changed. It is never
    sent.
    """

    code = "delivery-file-damaged"
    next_step = (
        "None: it is rendered again and put in its place. Seen often, the disk of "
        "STUBLINE_DELIVERY_FILES_URL is dying, or "
        "somebody else writes there."
    )


class BlobStoreUnavailable(Transient):
    """The content store does not answer, is full, or refuses us. Mails go all the same; their files
    are not kept.
    """

    code = "delivery-files-away"
    next_step = (
        "See whether the folder or bucket of STUBLINE_DELIVERY_FILES_URL is there, has room, and "
        "may be read and written by the "
        "senders. They go on by themselves."
    )


class FilesDiffer(Transient):
    """One document was rendered twice, and its bytes differ: two senders have not the same release,
    fonts or libraries.
    """

    code = "delivery-files-differ"
    next_step = (
        "Bring all senders to the same release, made from the same lock file, on machines of one "
        "image. Both files are right; "
        "but a resend may not be the same file as its first mail."
    )


class FilesUrlUnusable(Transient):
    """STUBLINE_DELIVERY_FILES_URL says what cannot be done."""

    code = "delivery-files-url-unusable"
    next_step = (
        "Set it to a folder that the senders may write (`/var/lib/stubline/files`), or to "
        "`s3://BUCKET/PREFIX` with s3fs installed."
    )


class DeliveryOrderUnknown(TargetUnknown):
    """Delivery has never been told of that order."""

    code = "delivery-order-unknown"
    next_step = (
        "`stubline deliveries list` shows the latest. An order is called `source:external "
        "id`, such as `shop:727`."
    )

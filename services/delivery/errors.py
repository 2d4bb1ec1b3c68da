"""The errors of the lane and the sender; those of printing are in `printing.errors`.

    Poison
        Undeliverable               the job becomes a dead letter
            RecipientUnusable       no mail can be addressed
            AddressRefused          the mail server knows no such mailbox
            PolicyRefused           it refuses this sender or its mails by policy
            MailRefused             it refuses this mail for another reason
            DialogueRefused         it did not understand a command
            MailUnsound             the bytes are not the mail that was composed
            RetriesExhausted        too many failures, or too old
            RenderFailed            no mail could be made of this order
    Transient
        MailServerUnavailable       every job waits, and loses no attempt
        MailServerLoginRefused      every job waits until an operator fixes the login
        SmtpUrlUnusable             the setting cannot be used
        FileMissing, FileDamaged    a stored file is lost: it is rendered again
        FilesDiffer                 two senders rendered one document differently
        BlobStoreUnavailable        mails are sent, their files are not stored
        FilesUrlUnusable            the setting cannot be used
    TargetUnknown
        DeliveryOrderUnknown        a command names an order that delivery has not received

The code of an error never changes; each has a section in deploy/runbooks/errors.md.
"""

from __future__ import annotations

from services.runtime.admin.refusals import TargetUnknown
from services.runtime.errors import Poison, Transient

REPLAY = "then `stubline dead replay ID`: the job is due again, with the same Message-ID"


class Undeliverable(Poison):
    """The mail of this job cannot be delivered, and the job becomes a dead letter."""


class RecipientUnusable(Undeliverable):
    """The order has no e-mail address, or one that no mail can be sent to."""

    code = "delivery-recipient-unusable"
    next_step = (
        "`stubline dead show ID` names the order. Have the address corrected at the shop, wait "
        f"until `stubline deliveries show ORDER` shows it, {REPLAY}."
    )


class AddressRefused(Undeliverable):
    """The mail server knows no such mailbox, or it takes no mail (550 5.1, 551, 553, 521, 556)."""

    code = "delivery-address-refused"
    next_step = (
        "`stubline dead show ID` quotes the server. Have the address corrected at the shop, wait "
        f"until `stubline deliveries show ORDER` shows it, {REPLAY}."
    )


class PolicyRefused(Undeliverable):
    """The mail server refuses this sender or its mails by policy (5.7): a blocklist, a missing
    signature, a mail that it takes for spam.
    """

    code = "delivery-policy-refused"
    next_step = (
        "The address may be right. `stubline dead show ID` quotes the server: fix SPF, DKIM, the "
        f"sender address or our entry on a blocklist, {REPLAY}."
    )


class MailRefused(Undeliverable):
    """The mail server refuses this mail for good, for another reason: a full mailbox, its size, its
    content.
    """

    code = "delivery-mail-refused"
    next_step = f"`stubline dead show ID` quotes the server. Fix what it names, {REPLAY}."


class MailUnsound(Undeliverable):
    """The bytes of the mail, parsed again before sending, are not the mail that was composed."""

    code = "delivery-mail-unsound"
    next_step = (
        "Nothing was sent. `stubline dead show ID` names what differs. It is a defect of the "
        f"release: deploy one without it, {REPLAY}."
    )


class DialogueRefused(Undeliverable):
    """The mail server did not understand a command (500 to 504, 555): a defect of Stubline, or a
    server of another protocol.
    """

    code = "delivery-dialogue-refused"
    next_step = (
        "`stubline dead show ID` quotes the server. Check whether STUBLINE_DELIVERY_SMTP_URL names "
        f"a mail server; else it is a defect: deploy a release without it, {REPLAY}."
    )


class RetriesExhausted(Undeliverable):
    """The mail failed as often, or the job is as old, as the settings allow."""

    code = "delivery-retries-exhausted"
    next_step = (
        f"`stubline dead show ID` quotes the last reply. When its cause is removed, {REPLAY}."
    )


class RenderFailed(Undeliverable):
    """The PDF or the mail of this order could not be made."""

    code = "delivery-render-failed"
    next_step = f"A defect of the release, found by this order's data: fix it, deploy, {REPLAY}."


class MailServerUnavailable(Transient):
    """The mail server does not answer, or closes the connection (421). Jobs wait, and none is
    dead-lettered for it.
    """

    code = "delivery-server-unavailable"
    next_step = (
        "Check whether the server of STUBLINE_DELIVERY_SMTP_URL runs and answers. Senders "
        "retry by themselves."
    )


class MailServerLoginRefused(Transient):
    """The mail server requires another login than the configured one (530, 534, 535, 538), or
    encryption that it does not offer.
    """

    code = "delivery-server-refuses-us"
    next_step = (
        "Correct user and password in STUBLINE_DELIVERY_SMTP_URL and restart the senders. "
        "No job is dead-lettered for it."
    )


class SmtpUrlUnusable(Transient):
    """STUBLINE_DELIVERY_SMTP_URL is not set, or cannot be used."""

    code = "delivery-smtp-url-unusable"
    next_step = (
        "Set it to `smtp://[user:password@]host:port`, with `?starttls=required`, or to "
        "`smtps://...`."
    )


class FileMissing(Transient):
    """A file that was rendered before is not in the blob store any more."""

    code = "delivery-file-missing"
    next_step = (
        "None: it is rendered again, with the same bytes. If there are many, the senders do not "
        "share one store, or something empties it: compare STUBLINE_DELIVERY_FILES_URL on each."
    )


class FileDamaged(Transient):
    """A file in the blob store does not match its hash: truncated or changed. It is never sent."""

    code = "delivery-file-damaged"
    next_step = (
        "None: it is rendered again and replaced. If it recurs, the disk of "
        "STUBLINE_DELIVERY_FILES_URL is failing, or another program writes there."
    )


class BlobStoreUnavailable(Transient):
    """The blob store does not answer, is full, or denies access. Mails are sent; their files are
    not stored.
    """

    code = "delivery-files-unavailable"
    next_step = (
        "Check whether the folder or bucket of STUBLINE_DELIVERY_FILES_URL exists, has room, and "
        "may be read and written by the senders. They retry by themselves."
    )


class FilesDiffer(Transient):
    """One document was rendered twice with different bytes: two senders do not have the same
    release, fonts or libraries.
    """

    code = "delivery-files-differ"
    next_step = (
        "Bring all senders to the same release, installed from the same lock file, on machines of "
        "one image. Both files are right, but a resend may not be the same file as its first mail."
    )


class FilesUrlUnusable(Transient):
    """STUBLINE_DELIVERY_FILES_URL cannot be used."""

    code = "delivery-files-url-unusable"
    next_step = (
        "Set it to a folder that the senders may write (`/var/lib/stubline/files`), or to "
        "`s3://BUCKET/PREFIX` with s3fs installed."
    )


class DeliveryOrderUnknown(TargetUnknown):
    """Delivery has received nothing about that order."""

    code = "delivery-order-unknown"
    next_step = (
        "`stubline deliveries list` shows the latest. An order is named `source:external "
        "id`, such as `shop:727`."
    )

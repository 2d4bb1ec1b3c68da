"""Why a callback is kept as a dead letter instead of becoming a fact, and why an operator's command
is not carried out.
"""

from __future__ import annotations

from services.runtime.admin.refusals import CommandRefused, TargetUnknown
from services.runtime.errors import Fatal, Poison, Transient


class CallbackUnreadable(Poison):
    """A callback that makes no sense. The door took it, for a shop asks once, and falls silent
    after a few refusals.
    """

    code = "ingest-callback-unreadable"
    next_step = (
        "`stubline dead show ID` prints its bytes. Useless: `stubline dead discard ID --reason "
        "...`. Right, but in a new format: "
        "deploy a release that reads it, then `stubline dead replay ID`; what is newer by now is "
        "not set back."
    )


class CallbackTypeUnknown(Poison):
    """A well-formed callback that is not about an order, or of a type that this release does not
    know.
    """

    code = "ingest-callback-foreign"
    next_step = (
        "The text names its topic or type. A webhook for customers, coupons or products: delete "
        "it in the shop, then "
        "`stubline dead discard ID --reason ...`. A type of a newer release: deploy it, then "
        "`stubline dead replay ID`."
    )


class CallbackMisaddressed(Poison):
    """A storefront's own order stands under another key or source than it names, so its facts could
    be told out of place.
    """

    code = "ingest-callback-misaddressed"
    next_step = (
        "Have the storefront publish with the record key `source:order_id` and the ce_source "
        "`/sources/source`. Then let it "
        "publish the order again, and `stubline dead discard ID --reason ...`."
    )

    def __init__(self, cause: str = "", wanted: str = "") -> None:
        """`wanted`: the key that it has to have. It is no part of the cause, which is the same for
        all orders.
        """
        super().__init__(cause)
        self.wanted = wanted


class AmountUnreadable(Poison):
    """An amount that cannot be counted in minor units: an unknown currency, too many digits, or no
    number. Earlier releases made letters of it; now the amount is kept as a text, and noticed.
    """

    code = "ingest-amount-unreadable"
    next_step = (
        "`stubline dead replay ID`: this release takes the order, with the amount as a "
        "text. What is newer by now is not set back."
    )


class WebhookReportsError(Poison):
    """A shop's signed webhook brought an error of the shop instead of an order: its user may not
    read orders any more.
    """

    code = "ingest-webhook-refused"
    next_step = (
        "In the shop, give the user who made the webhook the right to read orders, or make the "
        "webhook anew as one who has it. "
        "The shop does not send again what was missed: save those orders there. Then `stubline "
        "dead discard ID --reason ...`."
    )


class TooManyFacts(Poison):
    """More was told of an order, or of a payment, than one can have: its source is broken, or all
    payments name one order.
    """

    code = "ingest-order-overfull"
    next_step = (
        "`stubline dead show ID` prints the callback. Find what changes the order's status at the "
        "source, or what gives the gateway one order's id for every payment; then "
        "`stubline dead discard ID --reason ...`. What is known of the order stays as it is."
    )


class CallbackKept(Poison):
    """A callback that was kept, for no release until then acted on its kind, and that an operator
    gave back to be worked.
    """

    code = "ingest-callback-kept"
    next_step = (
        "None while it is asked for: the worker takes it. It is kept once more when this release "
        "does not act on its kind "
        "either; the incident is open again then."
    )


class IncidentUnknown(TargetUnknown):
    """There is no incident of that id."""

    code = "incident-unknown"
    next_step = (
        "`stubline incidents list --state all` shows the ids. Letters that were replayed and "
        "failed for another cause "
        "are another incident."
    )


class IncidentChoiceRefused(CommandRefused):
    """What was asked for is not what this incident can be resolved by."""

    code = "incident-choice-refused"
    next_step = (
        "`stubline incidents resolve ID` without a choice says what would do for it. "
        "Nothing was changed."
    )


class ProofReused(Poison):
    """A signature that covers only a checksum of its body came with a second body: somebody who saw
    the first has forged it.
    """

    code = "ingest-proof-reused"
    next_step = (
        "It changed nothing. Find who can read what comes to the door (a proxy, its logs, a "
        "mirror of the traffic); then "
        "`stubline dead discard ID --reason ...`."
    )


class ClockSkewed(Transient):
    """The clock of a webhook endpoint's machine and that of a Kafka broker are further apart than
    they may be.
    """

    code = "ingest-clock-skew"
    next_step = (
        "`chronyc tracking` (or `timedatectl`) on the endpoint's machine and on the brokers shows "
        "whose clock is wrong; "
        "set it. Nothing is lost or out of order meanwhile."
    )


class WebhookProducerFailed(Fatal):
    """The door's producer will never send again."""

    code = "ingest-door-broken"
    next_step = (
        "None: the supervisor starts the door again. What it had not acknowledged it had "
        "not answered."
    )

"""Why a callback becomes a dead letter, and why an operator's command is refused."""

from __future__ import annotations

from services.runtime.admin.refusals import CommandRefused, TargetUnknown
from services.runtime.errors import Fatal, Poison, Transient


class CallbackUnreadable(Poison):
    """A malformed callback. The endpoint accepted it, because WooCommerce sends it only once and
    disables its webhook after a few refusals.
    """

    code = "ingest-callback-unreadable"
    next_step = (
        "`stubline dead show ID` prints its bytes. If it is useless, `stubline dead discard "
        "ID --reason ...`. If it is right but in a new format, deploy a release that reads "
        "it, then `stubline dead replay ID`; what is newer by now is not overwritten."
    )


class CallbackTypeUnknown(Poison):
    """A well-formed callback that is not about an order, or of a type that is unknown here."""

    code = "ingest-callback-foreign"
    next_step = (
        "The text names its topic or type. A webhook for customers, coupons or products: "
        "delete it in the shop, then `stubline dead discard ID --reason ...`. A type of a "
        "newer release: deploy it, then `stubline dead replay ID`."
    )


class CallbackMisaddressed(Poison):
    """A storefront published its order under another key or source than the order names. Its facts
    could arrive out of order.
    """

    code = "ingest-callback-misaddressed"
    next_step = (
        "Have the storefront publish with the record key `source:order_id` and the ce_source "
        "`/sources/source`. Then let it publish the order again, and "
        "`stubline dead discard ID --reason ...`."
    )

    def __init__(self, cause: str = "", wanted: str = "") -> None:
        """Keep `wanted`, the key that the record must have. It is not part of the cause, which must
        be the same for all orders to be one incident.
        """
        super().__init__(cause)
        self.wanted = wanted


class AmountUnreadable(Poison):
    """An amount that cannot be counted in minor units: the currency is unknown, it has too many
    digits, or it is not a number. Earlier releases dead-lettered such orders; this one keeps the
    amount as text and reports drift.
    """

    code = "ingest-amount-unreadable"
    next_step = (
        "`stubline dead replay ID`: this release accepts the order, with the amount as a "
        "text. What is newer by now is not overwritten."
    )


class WebhookReportsError(Poison):
    """A shop's signed webhook carried an error of the shop instead of an order: its user may no
    longer read orders.
    """

    code = "ingest-webhook-refused"
    next_step = (
        "In the shop, give the user who made the webhook the right to read orders, or create "
        "the webhook again as one who has it. The shop does not repeat what was missed: save "
        "those orders there. Then `stubline dead discard ID --reason ...`."
    )


class TooManyFacts(Poison):
    """An order or a payment has more facts than one can have: its source is broken, or all payments
    name one order.
    """

    code = "ingest-too-many-facts"
    next_step = (
        "`stubline dead show ID` prints the callback. Find what changes the order's status at the "
        "source, or what gives the gateway one order's id for every payment; then "
        "`stubline dead discard ID --reason ...`. What is known of the order stays as it is."
    )


class CallbackKept(Poison):
    """A kept callback is being replayed, and this release does not process its kind either."""

    code = "ingest-callback-kept"
    next_step = (
        "None while its replay is pending: the worker takes it. It is kept once more if this "
        "release does not act on its kind either; then the incident is open again."
    )


class IncidentUnknown(TargetUnknown):
    """There is no incident with that id."""

    code = "incident-unknown"
    next_step = (
        "`stubline incidents list --state all` shows the ids. Dead letters that were replayed"
        " and failed with another cause are another incident."
    )


class IncidentChoiceRefused(CommandRefused):
    """The incident cannot be resolved in the requested way."""

    code = "incident-choice-refused"
    next_step = (
        "`stubline incidents resolve ID` without a choice shows what each would do. Nothing "
        "was changed."
    )


class ProofReused(Poison):
    """A signature that covers only a checksum of its body came with a second body, which somebody
    who saw the first has forged.
    """

    code = "ingest-proof-reused"
    next_step = (
        "It changed nothing. Find who can read what is sent to the webhook endpoint (a proxy,"
        " its logs, a mirror of the traffic); then `stubline dead discard ID --reason ...`."
    )


class ClockSkewed(Transient):
    """The clocks of the webhook endpoint's machine and of a Kafka broker are further apart than
    configured.
    """

    code = "ingest-clock-skew"
    next_step = (
        "`chronyc tracking` (or `timedatectl`) on the endpoint's machine and on the brokers shows "
        "whose clock is wrong; set it. Nothing is lost or out of order meanwhile."
    )


class WebhookProducerFailed(Fatal):
    """The webhook endpoint's producer failed for good."""

    code = "ingest-webhook-producer-failed"
    next_step = (
        "None: the supervisor restarts the webhook endpoint. Callbacks that were not "
        "acknowledged were not answered either."
    )

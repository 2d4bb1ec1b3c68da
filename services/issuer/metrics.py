"""The issuer's metrics."""

from services.runtime.observability.metrics import Counter, declare

ISSUED = declare(
    Counter(
        "stubline_issuer_tickets_issued_total",
        (
            "Tickets that got a number. If it is flat while decisions arrive, check the lanes of "
            "stubline.issuer."
        ),
    )
)
REFUND_DUE = declare(
    Counter(
        "stubline_issuer_tickets_refund_due_total",
        "Paid ordinals that were refused a number; their campaign is sold out, for instance.",
    )
)
CHANGED = declare(
    Counter(
        "stubline_issuer_tickets_changed_total",
        "Tickets that were cancelled or made active again.",
    )
)

"""What the issuer counts."""

from services.runtime.observability.metrics import Counter, declare

ISSUED = declare(
    Counter(
        "stubline_issuer_tickets_issued_total",
        (
            "Tickets that got a number. Flat while decisions come: look at the lanes of "
            "stubline.issuer."
        ),
    )
)
SOLD_OUT = declare(
    Counter(
        "stubline_issuer_tickets_sold_out_total",
        "Paid ordinals without a number, because their campaign is full: refunds are due.",
    )
)
CHANGED = declare(
    Counter(
        "stubline_issuer_tickets_changed_total",
        "Tickets that were cancelled or became active again.",
    )
)

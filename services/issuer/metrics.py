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
SOLD_OUT = declare(
    Counter(
        "stubline_issuer_tickets_sold_out_total",
        "Paid ordinals without a number because their campaign is sold out. Refunds are due.",
    )
)
CHANGED = declare(
    Counter(
        "stubline_issuer_tickets_changed_total",
        "Tickets that were cancelled or made active again.",
    )
)

"""What approval counts."""

from services.runtime.observability.metrics import Counter, declare

DECISIONS = declare(
    Counter(
        "stubline_approval_decisions_total",
        (
            "Decisions with a receipt. Flat while observations come: look at the lanes of "
            "stubline.approval."
        ),
    )
)

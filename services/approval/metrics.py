"""Approval's metrics."""

from services.runtime.observability.metrics import Counter, declare

DECISIONS = declare(
    Counter(
        "stubline_approval_decisions_total",
        (
            "Decisions with a receipt. If it is flat while observations arrive, check the lanes of "
            "stubline.approval."
        ),
    )
)

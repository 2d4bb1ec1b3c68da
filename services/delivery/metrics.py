"""What delivery counts. The lane's sums are raised after its commits; a sender raises each of its own once a mail."""

from __future__ import annotations

from services.runtime.metrics import Counter, Gauge, Histogram, declare

FILED = declare(
    Counter(
        "stubline_delivery_jobs_filed_total",
        "Jobs that the lane filed. Flat while tickets are issued: look at its lag.",
    )
)
JOBS = declare(
    Gauge(
        "stubline_delivery_jobs",
        "Jobs now, by state: due (a sender may take them), waiting (for their next attempt, or leased), held (their order is "
        "not released), dead. The same from every sender.",
        ("state",),
    )
)
OLDEST_DUE = declare(
    Gauge("stubline_delivery_oldest_due_seconds", "How long the longest due job has been waiting for a sender.")
)
ATTEMPTS = declare(
    Counter(
        "stubline_delivery_attempts_total",
        "Attempts by outcome: accepted, retry, refused, unknown (nobody knows whether it arrived), away (the server, not the "
        "mail), given_back (its order changed, or the process stopped).",
        ("outcome",),
    )
)
LOST_LEASES = declare(
    Counter(
        "stubline_delivery_leases_lost_total",
        "Leases that ran out with no answer written: a sender died or hung at work. Each is an unknown attempt.",
    )
)
REPEATED = declare(
    Counter("stubline_delivery_mails_repeated_total", "Mails that were accepted although an earlier copy had been.")
)
RENDER_SECONDS = declare(Histogram("stubline_delivery_render_seconds", "Making the PDF of one order."))
MAIL_SECONDS = declare(Histogram("stubline_delivery_mail_seconds", "Handing one mail over, from MAIL to the answer."))
WAIT_SECONDS = declare(Histogram("stubline_delivery_wait_seconds", "From filing a job to the acceptance of its mail."))
LETTERS = declare(Counter("stubline_delivery_letters_total", "Jobs given up, by error code.", ("code",)))
BREAKER = declare(
    Gauge(
        "stubline_delivery_breaker_open",
        "1 while this sender leaves a mail server alone. 0.5: one mail is tried. 0: all is well.",
        ("destination",),
    )
)

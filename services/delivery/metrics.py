"""Delivery's metrics. The lane adds its sums after its commits; a sender adds to its counters once
per mail.
"""

from __future__ import annotations

from services.runtime.observability.metrics import Counter, Gauge, Histogram, declare

ENQUEUED = declare(
    Counter(
        "stubline_delivery_jobs_enqueued_total",
        "Jobs that the lane enqueued. Flat while tickets are issued: check its lag.",
    )
)
JOBS = declare(
    Gauge(
        "stubline_delivery_jobs",
        "Jobs now, by state: due (a sender may lease them), waiting (for their next attempt, or "
        "leased), held (their order is not released), dead. Every sender reports the same.",
        ("state",),
    )
)
OLDEST_DUE = declare(
    Gauge(
        "stubline_delivery_oldest_due_seconds",
        "How long the longest due job has been waiting for a sender.",
    )
)
ATTEMPTS = declare(
    Counter(
        "stubline_delivery_attempts_total",
        "Attempts by outcome: accepted, retry, refused, unknown (it is not known whether it "
        "arrived), unavailable (the server, not the mail), released (its order changed, or the "
        "process stopped).",
        ("outcome",),
    )
)
LOST_LEASES = declare(
    Counter(
        "stubline_delivery_leases_lost_total",
        "Leases that expired without a recorded result: a sender died or hung at work. Each is an "
        "unknown attempt.",
    )
)
MAILS_REPEATED = declare(
    Counter(
        "stubline_delivery_mails_repeated_total",
        "Mails that were accepted although an earlier copy had been.",
    )
)
FILES = declare(
    Counter(
        "stubline_delivery_files_total",
        "Files that mails needed, by outcome: rendered, found (in the store), repaired (lost or "
        "damaged there, and rendered again), unstored (rendered, and the store did not take it).",
        ("outcome",),
    )
)
FILE_BYTES = declare(
    Counter(
        "stubline_delivery_files_bytes_total",
        "Bytes of the files that mails needed, by the same outcomes.",
        ("outcome",),
    )
)
FILES_REMOVED = declare(
    Counter(
        "stubline_delivery_files_removed_total",
        "Files removed because they were not used for STUBLINE_DELIVERY_FILES_KEEP_DAYS.",
    )
)
FILE_FAILURES = declare(
    Counter(
        "stubline_delivery_file_failures_total",
        "Failures of stored files that senders recovered from by themselves, by error code.",
        ("code",),
    )
)
PAGES = declare(
    Counter(
        "stubline_delivery_pages_total",
        "Pages by how they were made: stamped, with every field; or with at least one field that "
        "WeasyPrint laid out, because its text has characters that the design was not compiled "
        "for (characters), or a script whose glyphs cannot be placed alone (glyphs). Such a page's "
        "other fields are stamped. The first page with a text costs a layout, a hundred times a "
        "stamp; further pages with it are counted too, and cost none while the text is cached.",
        ("kind",),
    )
)
CHARACTERS_MISSING = declare(
    Counter(
        "stubline_delivery_characters_missing_total",
        "Characters printed as U+FFFD (a question mark in a diamond), because no font has them: "
        "neither the design's, nor the fallback fonts. Counted when a text is laid out. The log "
        "names design and field, once per process.",
    )
)
COMPILE_SECONDS = declare(
    Histogram(
        "stubline_delivery_compile_seconds",
        "Compiling a design for a campaign: once per campaign and release, by `stubline campaigns "
        "apply` or by the first sender; on each machine if the blob store cannot be reached.",
    )
)
PLATES_LOADED = declare(
    Counter(
        "stubline_delivery_plates_loaded_total",
        "Plates that this sender loaded from the blob store, and so did not compile.",
    )
)
RENDER_SECONDS = declare(
    Histogram(
        "stubline_delivery_render_seconds",
        "Making the files of one order that were not in the store yet.",
    )
)
MAIL_SECONDS = declare(
    Histogram("stubline_delivery_mail_seconds", "Sending one mail, from MAIL to the final reply.")
)
WAIT_SECONDS = declare(
    Histogram(
        "stubline_delivery_wait_seconds", "From creating a job to the acceptance of its mail."
    )
)
DEAD_LETTERED = declare(
    Counter(
        "stubline_delivery_dead_letters_total",
        "Jobs that were dead-lettered, by error code.",
        ("code",),
    )
)
BREAKER = declare(
    Gauge(
        "stubline_delivery_breaker_state",
        "State of the circuit breaker of a mail server: 0 closed, 1 half-open (one mail is tried), "
        "2 open.",
        ("destination",),
    )
)

"""What delivery counts. The lane's sums are raised after its commits; a sender raises each of its
own once a mail.
"""

from __future__ import annotations

from services.runtime.observability.metrics import Counter, Gauge, Histogram, declare

FILED = declare(
    Counter(
        "stubline_delivery_jobs_filed_total",
        "Jobs that the lane filed. Flat while tickets are issued: look at its lag.",
    )
)
JOBS = declare(
    Gauge(
        "stubline_delivery_jobs",
        "Jobs now, by state: due (a sender may take them), waiting (for their next attempt, or "
        "leased), held (their order is "
        "not released), dead. The same from every sender.",
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
        "Attempts by outcome: accepted, retry, refused, unknown (nobody knows whether it "
        "arrived), away (the server, not the "
        "mail), given_back (its order changed, or the process stopped).",
        ("outcome",),
    )
)
LOST_LEASES = declare(
    Counter(
        "stubline_delivery_leases_lost_total",
        (
            "Leases that ran out with no answer written: a sender died or hung at work. Each is an "
            "unknown attempt."
        ),
    )
)
REPEATED = declare(
    Counter(
        "stubline_delivery_mails_repeated_total",
        "Mails that were accepted although an earlier copy had been.",
    )
)
FILES = declare(
    Counter(
        "stubline_delivery_files_total",
        "Files that mails needed, by outcome: rendered, found (in the store), healed (lost or "
        "damaged there, and rendered again), "
        "unkept (rendered, and the store did not take it).",
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
        "Files removed because nobody used them for STUBLINE_DELIVERY_FILES_KEEP_DAYS.",
    )
)
FILE_TROUBLES = declare(
    Counter(
        "stubline_delivery_files_troubles_total",
        "Troubles with stored files that senders got over by themselves, by error code.",
        ("code",),
    )
)
PAGES = declare(
    Counter(
        "stubline_delivery_pages_total",
        "Pages by how they were made: stamped, with every field of theirs; or with at least one "
        "field that WeasyPrint set, because its "
        "text has characters that the design was not compiled for (characters), or a script whose "
        "glyphs cannot be placed alone "
        "(glyphs). Such a page's other fields are stamped. The first page with a text costs a "
        "layout, a hundred times a stamp; "
        "further pages with it are counted too, and cost none while the text is remembered.",
        ("kind",),
    )
)
LACKING = declare(
    Counter(
        "stubline_delivery_characters_lacking_total",
        "Characters printed as U+FFFD (a question mark in a diamond), because no font has them: "
        "neither the design's, nor those of "
        "other scripts that come with Stubline. Counted when a text is laid out. The log names "
        "design and field, once a process.",
    )
)
COMPILE_SECONDS = declare(
    Histogram(
        "stubline_delivery_compile_seconds",
        "Compiling a design for a campaign: once a campaign, machine and release.",
    )
)
RENDER_SECONDS = declare(
    Histogram(
        "stubline_delivery_render_seconds",
        "Making the files of one order that were not in the store yet.",
    )
)
MAIL_SECONDS = declare(
    Histogram("stubline_delivery_mail_seconds", "Handing one mail over, from MAIL to the answer.")
)
WAIT_SECONDS = declare(
    Histogram("stubline_delivery_wait_seconds", "From filing a job to the acceptance of its mail.")
)
LETTERS = declare(
    Counter("stubline_delivery_letters_total", "Jobs given up, by error code.", ("code",))
)
BREAKER = declare(
    Gauge(
        "stubline_delivery_breaker_open",
        "1 while this sender leaves a mail server alone. 0.5: one mail is tried. 0: all is well.",
        ("destination",),
    )
)

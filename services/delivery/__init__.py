"""Brings tickets to their buyers: files a job for what is not yet delivered, renders, sends, and
says what became of it.

In        tickets.changed.v1, orders.decided.v1 and its own replays, read by the group
          stubline.delivery
Out       deliveries.changed.v1: every delivery of an order; mails, by SMTP
Owns      schema delivery: orders (the last that each writer said), jobs, job_tickets, files; the
          content store, whose files can all be rendered again
Crash     The lane files jobs in its own transaction: each active ticket stands in exactly one
          initial job, by constraint. A sender writes its intent before it sends and the answer
          behind it. Killed in between, its lease runs out and the mail goes again with the same
          Message-ID: never lost, at worst twice, and counted as unknown.
Does not  judge whether an order is paid (approval), or number tickets (issuer). It sends nothing
for an order that is not
          released, or a ticket that is cancelled, as it stands at the moment of sending.
"""

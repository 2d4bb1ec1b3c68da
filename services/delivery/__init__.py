"""Delivers tickets to their buyers: creates a job for what is not delivered yet, renders, sends,
and publishes the deliveries of each order.

In        tickets.changed.v1, orders.decided.v1 and its own replays, read by the group
          stubline.delivery
Out       deliveries.changed.v1: every delivery of an order; mails, by SMTP
Owns      schema delivery: orders (the last snapshot of each writer), jobs, job_tickets, files; the
          blob store, whose files can all be rendered again, and whose plates compiled again
Crash     The lane files jobs in its own transaction: each active ticket is in exactly one
          initial job, by constraint. A sender writes its intent before it sends, and the reply
          after it. If it is killed in between, its lease expires and the mail is sent again with
          the same Message-ID: never lost, at worst sent twice, and counted as unknown.
Does not  decide whether an order is paid (approval), or number tickets (issuer). It sends nothing
          for an order that is not released, or for a ticket that is cancelled, at the moment of
          sending.
"""

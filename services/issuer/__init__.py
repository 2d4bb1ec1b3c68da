"""Gives each paid ordinal of an order its number in a campaign, once, and cancels the ticket when
the order is cancelled.

In        orders.decided.v1 and its own replays, read by the group stubline.issuer; campaigns,
          applied by an operator
Out       tickets.changed.v1: all tickets an order ever got, and what it did not get; at most one
          event per order and batch
Owns      schema issuer: campaigns, campaign_products, orders, tickets, waiting_lines, due_orders,
          audit
Crash     Numbers, tickets, audit rows, outputs and the lane's position commit together or not at
          all. A decision that is worked again finds its ordinals numbered: a ticket keeps its
          number for ever.
Does not  decide about an order (approval) or send anything (delivery). It cannot give a number
          twice: a constraint refuses it.
"""

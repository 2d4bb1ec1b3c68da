"""Turns callbacks into what is known of an order: each fact once, however often and by whatever way
it is told.

In        the door: signed callbacks over HTTP, kept in callbacks.received.v1 before they are
          answered. The worker: that topic, to which storefronts also publish their own orders, and
          its replays, read by the group stubline.ingest; and what vendors answer when its tick has
          them asked for what their callbacks lost
Out       orders.observed.v1: all facts of an order with its next sequence; at most one event per
          order and batch. callbacks.received.v1: what polls found, like callbacks
Owns      schema ingest: callbacks (the inbox), orders (facts and sequence), polls (from where each
          is asked next)
Crash     The door answers success only for what the broker has acknowledged; what it did not answer
          may be there or not, and comes again or is polled. Worker: inbox, orders, outputs and the
          lane's position commit together or not at all. The next owner publishes what was committed
          and reads on. A callback that comes again is judged against its order and finds nothing to
          change. A poll's cursor commits with the callbacks of its page; a page that is lost is
          asked again.
Does not  judge an order (approval), or trust a header that no signature covers with more than it
must: see sources.
"""

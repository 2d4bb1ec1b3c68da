"""A service of two stages without any business, on which the laws of the runtime are tested.

In        first: two topics of inputs, so that a key is fed by two lanes, and second's snapshots.
          second: first's snapshots
Out       first: a snapshot of a key whenever it differs from the last one. second: how many
          children it holds active
Owns      schema toy: inputs, firsts, snapshots (first), seconds, children (second)
Crash     Everything commits with the lanes' positions, or not at all.
Does not  know how it is killed: the switch is in the telemetry that only tests pass to it
(sabotage.py).
"""

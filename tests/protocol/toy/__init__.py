"""A service of two stages that sells nothing: what the laws of the runtime are tried on.

In        first: two topics of inputs, so that a key is fed by two lanes, and what second says.
          second: what first says
Out       first: a snapshot of a key whenever it differs from the last one. second: how many
          children it holds active
Owns      schema toy: inputs, firsts, snapshots (first), seconds, children (second)
Crash     Everything commits with the lanes' positions, or not at all.
Does not  know how it is being killed: the switch lies in the telemetry that only tests pass to it
(sabotage.py).
"""

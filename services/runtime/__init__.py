"""What every service stands on: lanes, batches, dead letters, controls. It knows no business word.

In        the topics of a service's group, and its own replay topic
Out       what the service's outcomes say; dead letters to `<group>.dead.v1`
Owns      schema runtime: lanes, dead_letters, controls, audit, generation
Crash     A batch's work, its lanes' positions and its outputs commit together or not at all.
          Outputs that were committed and not acknowledged stand in the lane's row; the next owner
          publishes them before it commits anything.
Does not  trust the broker with positions, skip a record in silence, or hold more than one batch in
memory.

The protocol is model-checked (model/), DESIGN section 3 and LANES tell it in prose,
docs/explanation/lanes.md draws it.
"""

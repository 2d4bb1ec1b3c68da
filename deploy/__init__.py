"""How Stubline is run: the local stack, the demo, containers, alerts and runbooks."""

"""The loop of a service: what happens to a record between fetch and publish."""

"""How Stubline is run: the local stack, the demonstration, generated documentation and runbooks."""

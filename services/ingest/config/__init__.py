"""The sources file: which sources may send callbacks, by which secrets, and how they are polled."""

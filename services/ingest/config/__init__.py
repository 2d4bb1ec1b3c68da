"""The sources file: which sources may call, by which secrets, and how they are polled."""

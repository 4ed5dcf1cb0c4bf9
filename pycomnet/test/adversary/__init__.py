"""The tests that attack the daemons: what stays up, what it costs, and what is written of it."""

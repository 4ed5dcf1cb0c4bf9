"""The tests that start real programs."""

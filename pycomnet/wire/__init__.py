"""The wire protocol without I/O: one source for both ends of a connection."""

"""The extensions of services without Deferreds."""

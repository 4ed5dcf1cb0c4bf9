"""The launcher: runs services in a process, and keeps them registered."""

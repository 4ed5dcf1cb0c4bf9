"""The client of services: contexts, connections to servers, calls and streams."""

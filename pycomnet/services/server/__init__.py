"""The server of services: connections of clients, the calls that run, sessions."""

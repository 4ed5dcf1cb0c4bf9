"""The HTTP interface to gateways: a client, a server, and what both use."""

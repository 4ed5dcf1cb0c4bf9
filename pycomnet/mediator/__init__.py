"""The HTTP interface to gateways: what its two ends share; the server and the client beside it."""

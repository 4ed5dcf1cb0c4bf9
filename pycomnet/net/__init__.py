"""The network: endpoint strings, TLS, and when the reactor writes and waits."""

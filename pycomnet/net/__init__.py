"""The network: endpoint strings, TLS, eager writes and busy polling."""

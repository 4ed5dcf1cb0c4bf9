"""Who may come in: tokens, certificates, and the peers of unix sockets."""

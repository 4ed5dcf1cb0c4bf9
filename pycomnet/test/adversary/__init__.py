"""Attacks on each daemon: what strangers, clients and hostile peers may try."""

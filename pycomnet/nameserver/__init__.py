"""The nameserver: who offers which interface, where, and for how long."""

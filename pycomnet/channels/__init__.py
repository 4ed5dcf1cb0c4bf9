"""Connections and channels for Twisted."""

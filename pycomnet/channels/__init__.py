"""Connections and channels for Twisted: what users send and receive on."""

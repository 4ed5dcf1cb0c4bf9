"""Tests of connections and channels."""

"""Tests of what is on the network."""

"""Tests of the client of NATS."""

"""Tests of services: the client."""

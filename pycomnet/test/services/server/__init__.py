"""Tests of services: the server."""

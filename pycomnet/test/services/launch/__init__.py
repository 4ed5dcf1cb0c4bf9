"""Tests of services: the launcher."""

"""Tests of the HTTP interface's client."""

"""Tests of the HTTP interface's server."""

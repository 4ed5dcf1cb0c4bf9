"""Tests of the http mediator."""

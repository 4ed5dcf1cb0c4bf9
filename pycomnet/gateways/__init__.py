"""Gateways: where code runs, how it gets there, and how it is ended."""

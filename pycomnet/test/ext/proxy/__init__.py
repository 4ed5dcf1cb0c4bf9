"""Tests of proxies."""

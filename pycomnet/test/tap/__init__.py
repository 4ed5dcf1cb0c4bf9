"""Tests of pycomnet.tap."""

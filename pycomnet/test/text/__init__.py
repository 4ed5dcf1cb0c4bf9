"""Tests of text that people read."""

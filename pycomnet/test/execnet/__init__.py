"""Tests of the drop-in for execnet."""

"""Tests of the fork server at the far side."""

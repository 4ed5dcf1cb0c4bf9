"""Tests of rsync."""

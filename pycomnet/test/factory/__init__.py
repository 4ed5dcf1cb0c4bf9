"""Tests of the local factory service."""

"""Tests of publish and subscribe."""

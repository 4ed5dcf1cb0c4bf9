"""Tests of publish and subscribe through NATS."""

"""Publish and subscribe through NATS: what ``via=`` does. docs/protocol.rst has the messages."""

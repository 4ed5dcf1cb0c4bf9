"""Publish and subscribe through NATS servers (``via=``). docs/protocol.rst has the messages."""

"""Admission: tokens, certificates, and peer credentials of unix sockets."""

"""Tests of the near end of the fork server."""

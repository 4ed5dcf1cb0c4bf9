"""Tests of pycomnet.gateways."""

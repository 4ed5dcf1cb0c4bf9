"""Tests of :mod:`pycomnet.xdeploy`."""

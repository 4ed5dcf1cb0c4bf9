"""Tests of the far side's parts that stand alone."""

"""Tests of the API without Deferreds."""

"""The far side: what runs in the process that a gateway reaches.

All of it is sent to a bare interpreter, or imported there from the near side's own files when both
are on one machine: stdlib only, in the common subset of Python 2.7 and 3, and quick to import.
"""

"""The far side: what runs in the process that a gateway reaches.

Its source is sent to a bare interpreter, or imported there from the near side's files if both are
on one machine. So it is stdlib only, in the common subset of Python 2.7 and 3, and quick to import.
"""

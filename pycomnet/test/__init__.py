"""The tests, mirroring the tree."""

import gc

# A full collection looks at all that thousands of tests have imported, and took a quarter of the
# tests' time. A test of what happens when an object is collected asks for the collection.
gc.set_threshold(700, 10, 100)
gc.freeze()

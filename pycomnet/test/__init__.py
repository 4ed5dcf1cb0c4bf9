"""The tests, mirroring the tree."""

import gc

# A full collection looks at all that thousands of tests have imported: it took a quarter of the time
# of all tests. What an object's collection does is tested with a collection that the test asks for.
gc.set_threshold(700, 10, 100)
gc.freeze()

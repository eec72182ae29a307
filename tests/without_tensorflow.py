"""Importing this first makes a process one where TensorFlow is not installed.

A `None` in `sys.modules` would not do: Keras takes it for a TensorFlow that is loaded.
"""

import sys


class Without:
    """A finder of modules that does not find TensorFlow."""

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            return None
        return self.finder.find_spec(name, path, target)


sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]

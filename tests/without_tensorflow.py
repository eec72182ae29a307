"""Make TensorFlow look uninstalled in this process; import this module first.

A `None` in `sys.modules` is not enough: Keras would take it for a loaded TensorFlow.
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

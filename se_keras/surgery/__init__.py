"""Squeeze-and-excitation into a model that is there already, and out of it.

`nodes` says what single nodes of a graph are, `patterns` how they make units and modules, `rules`
where SE goes among these. `sites` makes a plan of it (`find_sites`), `plan` is that plan, names and
numbers, and carries it out. `insertion` does both (`insert_se`), or takes SE out (`remove_se`).
"""

from se_keras.surgery.insertion import insert_se, remove_se
from se_keras.surgery.plan import InsertionPlan, Site
from se_keras.surgery.sites import find_sites

__all__ = ["InsertionPlan", "Site", "find_sites", "insert_se", "remove_se"]

"""Squeeze-and-excitation into a model that is there already, and out of it.

`nodes` says what single nodes of a graph are, `patterns` how they make units and modules, `rules`
where SE goes among these. `plan` makes the plan of it (`find_sites`), `insertion` carries it out
(`insert_se`) and takes SE out (`remove_se`).
"""

from se_keras.surgery.insertion import insert_se, remove_se
from se_keras.surgery.plan import InsertionPlan, Site, find_sites

__all__ = ["InsertionPlan", "Site", "find_sites", "insert_se", "remove_se"]

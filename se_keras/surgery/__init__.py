"""Squeeze-and-excitation into a model that is there already.

`operations` says what single nodes of a graph are, `structure` how they make units and modules,
`spots` which rule puts SE where; `sites` makes the plan and `insertion` carries it out.
"""

from se_keras.surgery.insertion import insert_se, remove_se
from se_keras.surgery.plan import InsertionPlan, Site, find_sites

__all__ = ["InsertionPlan", "Site", "find_sites", "insert_se", "remove_se"]

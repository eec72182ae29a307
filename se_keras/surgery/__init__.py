"""Insert squeeze-and-excitation into an existing model, or remove it.

`nodes` classifies single nodes of a graph, `patterns` finds units and modules, and `rules` finds
places for SE. `sites` makes a plan (`find_sites`), and `plan` holds it and carries it out.
`insertion` does both (`insert_se`), and removes SE (`remove_se`).
"""

from se_keras.surgery.insertion import insert_se, remove_se
from se_keras.surgery.plan import InsertionPlan, Site
from se_keras.surgery.sites import find_sites

__all__ = ["InsertionPlan", "Site", "find_sites", "insert_se", "remove_se"]

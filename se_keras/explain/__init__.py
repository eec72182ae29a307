"""Analyze the gates of a trained model, in numbers and pictures.

`record` runs a model over images and collects statistics of all gates, `statistics` holds them,
`plots` draws them, and `pruning` removes the layers whose gates hardly vary.
"""

from se_keras.explain.plots import plot_excitations
from se_keras.explain.pruning import PruningPlan, plan_pruning, prune_se
from se_keras.explain.record import record_excitations
from se_keras.explain.statistics import ExcitationStats, LayerStats

__all__ = [
    "ExcitationStats",
    "LayerStats",
    "PruningPlan",
    "plan_pruning",
    "plot_excitations",
    "prune_se",
    "record_excitations",
]

"""The gates of a trained model, as numbers and as pictures.

`record` runs a model over images and keeps statistics of all gates, `statistics` is what it gives,
`plots` draws them, `pruning` takes out the layers whose gates hardly vary.
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

"""Choose the epoch to keep, and decide when a run ends, from the run's history."""

from collections.abc import Sequence

from se_keras.train.config import TrainConfig


def best_epoch(history: Sequence[dict[str, float]]) -> int:
    """Return the number of the best epoch, from 1, by the validation results.

    It is the epoch with the highest accuracy; ties are broken by the lowest loss, then by the
    first.

    Example:

    >>> rows = [(0.5, 1.0), (0.7, 0.9), (0.7, 0.8), (0.6, 0.7)]
    >>> best_epoch([{"val_accuracy": accuracy, "val_loss": loss} for accuracy, loss in rows])
    3
    """
    ranks = [(row["val_accuracy"], -row["val_loss"]) for row in history]
    return 1 + ranks.index(max(ranks))


def chosen_epoch(history: Sequence[dict[str, float]], config: TrainConfig) -> int:
    """Return the number of the epoch whose weights the run keeps."""
    return best_epoch(history) if config.choose == "best" else len(history)


def is_over(history: Sequence[dict[str, float]], config: TrainConfig) -> bool:
    """Return whether the run ends: after all epochs, or after `patience` epochs without gain.

    Args:
        history: rows of the epochs so far.
        config: completed settings.

    Example:

    >>> config = TrainConfig(epochs=9, patience=2).completed()
    >>> history = [{"val_accuracy": x, "val_loss": 1.0} for x in (0.5, 0.7, 0.7)]
    >>> is_over(history, config), is_over([*history, history[0]], config)
    (False, True)
    """
    assert config.epochs is not None  # the settings are completed
    if not history or len(history) >= config.epochs:
        return bool(history)
    # Results with a frozen backbone do not predict the results after it.
    frozen = config.freeze or 0
    frozen = frozen if frozen < config.epochs else 0
    return 0 < (config.patience or 0) <= len(history) - max(best_epoch(history), frozen)

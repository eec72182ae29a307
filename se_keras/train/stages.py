"""The stages of fine-tuning: the classifier alone with all else frozen, then all layers."""

from collections.abc import Callable
from dataclasses import dataclass

import keras

from se_keras.graph import innermost_layers
from se_keras.train.config import TrainConfig

# Share of the learning rate at which weights that were trained before are trained on.
TUNING_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a run with one set of trainable variables and one optimizer.

    Attributes:
        begin, end: its epochs, from 0; the end is not in it.
        share: its part of the learning rate.
        frozen: whether the classifier alone is trained.
    """

    begin: int
    end: int
    share: float = 1.0
    frozen: bool = False


def stages_of(config: TrainConfig) -> list[Stage]:
    """Return the stages of a run, in their order.

    Args:
        config: completed settings; `freeze` is `None` for fresh weights.

    Example:

    >>> config = TrainConfig(weights="seresnet50.a1_in1k", freeze=2, epochs=9).completed()
    >>> [(stage.begin, stage.end, stage.share, stage.frozen) for stage in stages_of(config)]
    [(0, 2, 1.0, True), (2, 9, 0.1, False)]
    """
    assert config.epochs is not None  # the settings are completed
    if config.freeze is None:
        return [Stage(begin=0, end=config.epochs)]
    frozen = min(config.freeze, config.epochs)
    stages = [
        Stage(begin=0, end=frozen, frozen=True),
        Stage(begin=frozen, end=config.epochs, share=TUNING_SHARE),
    ]
    return [stage for stage in stages if stage.end > stage.begin]


class Stages:
    """Brings a model from one stage to another: what of it trains, and by which optimizer.

    Args:
        model: with the optimizer of the only stage, where there is one without a classifier alone.
        config: completed settings.
        prepare: compiles the model for a stage.
    """

    def __init__(self, model: keras.Model, config: TrainConfig, prepare: Callable[[Stage], None]):
        self.stages = stages_of(config)
        self.prepare = prepare
        self.current = None if config.freeze is not None else self.stages[0]
        layers = list(innermost_layers(model))
        # What its owner froze stays frozen.
        self.flags = [(layer, layer.trainable) for layer in layers]
        dense = (layer for layer in reversed(layers) if isinstance(layer, keras.layers.Dense))
        self.classifier = next(dense, None)

    def enter(self, epoch: int) -> Stage:
        """Make the model ready for an epoch, from 0; return its stage.

        A change of the stage leaves the weights as they are and begins with a new optimizer.
        """
        stage = next(s for s in self.stages if epoch < s.end)
        if stage is not self.current:
            self._set_trainable(stage.frozen)
            self.prepare(stage)
            self.current = stage
        return stage

    def leave(self) -> None:
        """Let all of the model train that its owner lets train."""
        self._set_trainable(frozen=False)

    def _set_trainable(self, frozen: bool) -> None:
        # Layer by layer: a batch normalization holds its statistics only if it is frozen itself.
        for layer, flag in self.flags:
            layer.trainable = layer is self.classifier if frozen else flag

"""The stages of fine-tuning: the classifier alone, then all layers or those near the end."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import keras

from se_keras.graph import innermost_layers
from se_keras.support.errors import InputError
from se_keras.train.config import TrainConfig
from se_keras.train.depth import classifier_of, stages_from_end


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
        config: completed settings; `freeze` and `tuning_rate` are `None` for fresh weights.

    Example:

    >>> config = TrainConfig(
    ...     weights="seresnet50.a1_in1k", freeze=2, tuning_rate=0.1, epochs=9
    ... ).completed()
    >>> [(stage.begin, stage.end, stage.share, stage.frozen) for stage in stages_of(config)]
    [(0, 2, 1.0, True), (2, 9, 0.1, False)]
    """
    assert config.epochs is not None  # the settings are completed
    if config.freeze is None or config.tuning_rate is None:
        return [Stage(begin=0, end=config.epochs)]
    frozen = min(config.freeze, config.epochs)
    stages = [
        Stage(begin=0, end=frozen, frozen=True),
        Stage(begin=frozen, end=config.epochs, share=config.tuning_rate),
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
        self.classifier = classifier_of(model)
        self.held = held_layers(model, config)

    def enter(self, epoch: int) -> Stage:
        """Make the model ready for an epoch, from 0; return its stage.

        A change of the stage leaves the weights as they are and begins with a new optimizer.
        """
        stage = next(s for s in self.stages if epoch < s.end)
        if stage is not self.current:
            self._set_trainable(stage.frozen, self.held)
            self.prepare(stage)
            self.current = stage
        return stage

    def leave(self) -> None:
        """Let all of the model train that its owner lets train."""
        self._set_trainable(frozen=False)

    def _set_trainable(self, frozen: bool, held: Collection[keras.Layer] = ()) -> None:
        # Layer by layer: a batch normalization holds its statistics only if it is frozen itself.
        for layer, flag in self.flags:
            layer.trainable = layer is self.classifier if frozen else flag and layer not in held


def held_layers(model: keras.Model, config: TrainConfig) -> set[keras.Layer]:
    """Return the layers that no stage trains.

    Raises:
        InputError: if `unfreeze` is more than the model has stages.
    """
    if config.unfreeze is None:
        return set()
    stages = stages_from_end(model)
    count = max(stages.values())
    if config.unfreeze > count:
        raise InputError(
            f"`unfreeze` must be at most {count}, the stages of {model.name} at "
            f"{config.image_size} pixels, got {config.unfreeze}."
        )
    return {layer for layer, stage in stages.items() if stage > config.unfreeze}

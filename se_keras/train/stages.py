"""The stages of fine-tuning: first only the classifier, then all or only the last layers."""

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
        begin, end: its epochs, counted from 0, without `end`.
        share: factor of the learning rate.
        frozen: whether only the classifier is trained.
    """

    begin: int
    end: int
    share: float = 1.0
    frozen: bool = False


def stages_of(config: TrainConfig) -> list[Stage]:
    """Return the stages of a run in order.

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
    """Switch a model between stages: set the trainable layers and the optimizer.

    Args:
        model: the model, already compiled if there is only one stage.
        config: completed settings.
        prepare: function that compiles the model for a stage.
    """

    def __init__(self, model: keras.Model, config: TrainConfig, prepare: Callable[[Stage], None]):
        self.stages = stages_of(config)
        self.prepare = prepare
        self.current = None if config.freeze is not None else self.stages[0]
        layers = list(innermost_layers(model))
        # Layers that the user froze stay frozen.
        self.flags = [(layer, layer.trainable) for layer in layers]
        self.classifier = classifier_of(model)
        self.held = held_layers(model, config)

    def enter(self, epoch: int) -> Stage:
        """Prepare the model for an epoch, counted from 0; return its stage.

        A change of the stage keeps the weights and makes a new optimizer.
        """
        stage = next(s for s in self.stages if epoch < s.end)
        if stage is not self.current:
            self._set_trainable(stage.frozen, self.held)
            self.prepare(stage)
            self.current = stage
        return stage

    def leave(self) -> None:
        """Make all layers trainable again, except layers that the user froze."""
        self._set_trainable(frozen=False)

    def _set_trainable(self, frozen: bool, held: Collection[keras.Layer] = ()) -> None:
        # Layer by layer, because batch normalization keeps its statistics only if it is frozen
        # itself.
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

"""The optimizer of a run: schedule, decay, clipping, accumulation, moving average, loss scale."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from se_keras.train.config import TrainConfig
from se_keras.train.depth import stages_from_end

# Share of the steps in which the learning rate rises (Goyal et al. 2017, arXiv 1706.02677,
# sec. 2.2: 5 epochs of 90).
WARM_UP = 0.05
MOMENTUM = 0.9


def build_optimizer(
    config: TrainConfig, model: keras.Model, updates: int, *, mirrored: bool = False
) -> keras.Optimizer:
    """Return SGD with Nesterov momentum and the given settings, built for a model.

    Args:
        config: completed settings.
        model: the model whose trainable variables are updated.
        updates: number of updates of the weights in the whole run.
        mirrored: whether the model is trained in a `tf.distribute.MirroredStrategy`.
    """
    options = {
        "learning_rate": _schedule(config, updates),
        "momentum": MOMENTUM,
        "nesterov": True,
        "weight_decay": config.weight_decay or None,
    }
    if config.accumulate > 1:
        options["gradient_accumulation_steps"] = config.accumulate
    if config.ema is not None:
        # Keras averages at each part of a batch and not at each update. This momentum has the same
        # effect, except for the last update, which is added only once.
        options |= {"use_ema": True, "ema_momentum": config.ema ** (1 / config.accumulate)}
    if config.layer_decay is not None:
        options["shares"] = _shares(model, config.layer_decay)
    if mirrored and config.clip_norm:
        optimizer = MirroredSGD(largest_norm=config.clip_norm, **options)
    elif config.layer_decay is not None:
        optimizer = StagedSGD(global_clipnorm=config.clip_norm, **options)
    else:
        optimizer = keras.optimizers.SGD(global_clipnorm=config.clip_norm, **options)
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if v.ndim < 2])
    # Keras does this itself only if the global policy is float16.
    if config.precision == "mixed_float16":
        scaled = MirroredLossScale if mirrored else keras.optimizers.LossScaleOptimizer
        optimizer = scaled(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


def _shares(model: keras.Model, decay: float) -> list[float]:
    """Return the factor of the learning rate for each trainable variable."""
    stages = stages_from_end(model)
    by_variable = {
        id(variable): decay**stage
        for layer, stage in stages.items()
        for variable in layer.trainable_variables
    }
    return [by_variable[id(variable)] for variable in model.trainable_variables]


def _schedule(config: TrainConfig, updates: int) -> keras.optimizers.schedules.LearningRateSchedule:
    warm_up = max(1, round(WARM_UP * updates))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, updates - warm_up), warmup_target=config.lr, warmup_steps=warm_up
    )
    return schedule if config.accumulate == 1 else EveryNth(schedule, config.accumulate)


class EveryNth(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule over updates; Keras counts the parts of batches."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, parts: int):
        self.schedule, self.parts = schedule, parts

    def __call__(self, step: Any) -> Any:
        return self.schedule(step // self.parts)

    def get_config(self) -> dict[str, Any]:
        schedule = keras.optimizers.schedules.serialize(self.schedule)
        return {"schedule": schedule, "parts": self.parts}


class StagedSGD(keras.optimizers.SGD):
    """SGD with a factor of the learning rate for each variable, also for its weight decay.

    Args:
        shares: factors of the variables, in the order of `build`; `None` for equal factors.
        weight_decay: as in `keras.optimizers.SGD`.
        **options: other arguments of `keras.optimizers.SGD`.
    """

    def __init__(
        self,
        *,
        shares: Sequence[float] | None = None,
        weight_decay: float | None = None,
        **options: Any,
    ):
        super().__init__(weight_decay=None if shares else weight_decay, **options)
        self.shares, self.staged_decay = shares, weight_decay or 0.0

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self.shares:
            share = self.shares[self._get_variable_index(variable)]
            learning_rate = keras.ops.cast(learning_rate, variable.dtype) * share
            if self._use_weight_decay(variable):
                self.assign_sub(variable, variable * (self.staged_decay * learning_rate))
        super().update_step(gradient, variable, learning_rate)


class MirroredSGD(StagedSGD):
    """SGD that clips the gradient of the whole batch.

    Under `tf.distribute`, Keras clips the gradient of each replica before it adds them up.
    """

    def __init__(self, *, largest_norm: float, **options: Any):
        super().__init__(**options)
        self.largest_norm = largest_norm

    def apply(
        self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[Any] | None = None
    ) -> None:
        replica = tf.distribute.get_replica_context()
        whole = replica.all_reduce(tf.distribute.ReduceOp.SUM, list(grads))
        limited, _ = tf.clip_by_global_norm(whole, self.largest_norm)
        # Keras adds them up once more.
        super().apply([g / replica.num_replicas_in_sync for g in limited], trainable_variables)


class MirroredLossScale(keras.optimizers.LossScaleOptimizer):
    """Skip an update that is not finite on any replica; Keras only checks the first replica."""

    def check_finite(self, grads: Sequence[tf.Tensor]) -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        finite = tf.cast(super().check_finite(grads), tf.float32)
        total = replica.all_reduce(tf.distribute.ReduceOp.SUM, finite)
        return total >= replica.num_replicas_in_sync

"""RandAugment, mixup and CutMix, by layers of Keras.

All random numbers depend on a seed that comes with the images, so that a resumed run sees the same
images as an uninterrupted one. Keras' layers alone would use a state that no run saves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from se_keras.train.config import TrainConfig

# Images and one-hot labels.
Pair = tuple[tf.Tensor, tf.Tensor]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The augmentation of a run; `None` where a kind is not used.

    Attributes:
        mixup, cutmix: parameter of the beta distribution for the share of the second image.
        rand_augment: maximum strength of each change, 0 to 1.
    """

    mixup: float | None = None
    cutmix: float | None = None
    rand_augment: float | None = None

    @classmethod
    def of(cls, config: TrainConfig) -> "Augmentation":
        """Return the augmentation in the settings of a run."""
        return cls(mixup=config.mixup, cutmix=config.cutmix, rand_augment=config.rand_augment)

    def change(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """Return a function from an image (H, W, C) in 0..255 and a seed to a changed image."""
        if self.rand_augment is None:
            return lambda image, seed: image
        apply = _seeded(keras.layers.RandAugment, factor=self.rand_augment)
        return lambda image, seed: tf.ensure_shape(apply(image, seed), image.shape)

    def mix(self) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Pair]:
        """Return a function that mixes a batch (N, H, W, C) and its labels (N, classes) by a seed.

        With both mixup and CutMix, the seed of each batch selects one of them.
        """
        layers = []
        if self.mixup is not None:
            layers.append(_seeded(keras.layers.MixUp, alpha=self.mixup))
        if self.cutmix is not None:
            layers.append(_seeded(keras.layers.CutMix, factor=(self.cutmix, self.cutmix)))

        def apply(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> Pair:
            if not layers:
                return images, labels
            choice, seed = tf.unstack(tf.random.split(seed, 2))
            number = tf.random.stateless_uniform((), choice, 0, len(layers), tf.int32)
            batch = {"images": images, "labels": labels}
            mixed = tf.switch_case(number, [lambda f=f: f(dict(batch), seed) for f in layers])
            return (
                tf.ensure_shape(mixed["images"], images.shape),
                tf.ensure_shape(mixed["labels"], labels.shape),
            )

        return apply

    def __str__(self) -> str:
        """Return the augmentation in words; empty if there is none."""
        texts = {
            "RandAugment of up to {:g}": self.rand_augment,
            "mixup with {:g}": self.mixup,
            "CutMix with {:g}": self.cutmix,
        }
        return ", ".join(text.format(value) for text, value in texts.items() if value is not None)


NO_MORE = Augmentation()


class _Seeds(keras.random.SeedGenerator):
    """Generate seeds from one seed, without a variable."""

    def __init__(self, seed: tf.Tensor):
        self.seed, self.count = seed, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        self.count += 1
        return tf.random.experimental.stateless_fold_in(self.seed, self.count)


def _seeded(kind: type[keras.Layer], **options: Any) -> Callable[[Any, tf.Tensor], Any]:
    """Return a function that applies a random layer of Keras to images by a seed."""
    drawn: list[_Seeds] = []  # a list, because the layer would track an attribute

    class Seeded(kind):  # type: ignore[misc,valid-type]
        def _get_seed_generator(self, backend: str | None = None) -> _Seeds:
            return drawn[-1]

    layer = Seeded(**options)

    def apply(data: Any, seed: tf.Tensor) -> Any:
        drawn.append(_Seeds(seed))
        return layer(data)

    return apply

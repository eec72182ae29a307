"""What a run begins with, where that is not fresh weights: published weights, a file or a model.

The images that training sees are whole central squares, resized bilinearly. Of what the weights
were made for, their size and their numbers are taken; these go into the model as its first layer,
so that it takes raw pixels.
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import keras

from se_keras import catalog
from se_keras.graph import Graph, is_functional, trace
from se_keras.models.recipes import find_recipe
from se_keras.pixels import WORDS, gray_pixels, normalization_layer, pixels_named, pixels_of
from se_keras.support.errors import InputError
from se_keras.train.config import SMALLEST, TrainConfig, is_model_file
from se_keras.train.stages import stages_of
from se_keras.weights.preprocessing import Pixels
from se_keras.weights.readers.keras3 import load_archive
from se_keras.weights.source import parse_source, split_name

# Epochs in which the classifier alone is trained, where the user says nothing: its first gradients
# are noise, which would spoil what the other layers know, and it fits in a few epochs.
FROZEN_EPOCHS = 5
# Share of the learning rate at which the other layers are trained on, where the user says nothing.
TUNING_RATE = 0.1
# Settings that are for such weights only.
TUNING = ("freeze", "tuning_rate", "layer_decay", "unfreeze", "pixels")
POOLS = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
# What may stand between the pool and the classifier, and after the classifier.
BEFORE = (keras.layers.Dropout, keras.layers.Flatten)
AFTER = (keras.layers.Activation, keras.layers.Softmax)
CLASSIFIES = tuple(map(keras.activations.get, ("linear", "softmax", "sigmoid")))


class Build(Protocol):
    """Make the network of prepared pixels, with a fresh classifier."""

    def __call__(
        self, *, input_tensor: keras.KerasTensor, classes: int, dtype: str
    ) -> keras.Model: ...


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run begins with.

    Attributes:
        name: what `settings.json` and messages call it.
        config: the settings, with what this decides.
        pixels: what pixels the network takes.
        build: makes the network.
    """

    name: str
    config: TrainConfig
    pixels: Pixels
    build: Build

    def prepare(self, pixels: keras.KerasTensor) -> keras.KerasTensor:
        """Return raw pixels as the network takes them, by a layer that `pixels_of` knows."""
        given, channels = self.pixels, pixels.shape[-1]
        if given.mean is None or given.std is None:  # as they are: 255 x / 255
            mean, std = (0.0,) * channels, (1 / 255,) * channels
        else:  # the first kernel of weights for three colors is adapted to gray images
            given = gray_pixels(given) if channels == 1 else given
            mean, std = given.mean, given.std
        _check_channels(self, len(mean), channels)
        numbers = Pixels(mean=mean, std=std, channels=channels)
        return normalization_layer(numbers, "channels_last")(pixels)

    def describe(self, config: TrainConfig) -> str:
        """Say what the run begins with, and what of it is trained; `config` is completed."""
        size, weights = config.image_size, config.weights or self.name
        values = "{:.3g} to {:.3g}".format(*self.pixels.range or ())
        return (
            f"It begins with {weights}, on whole squares of {size} x {size}, pixels from {values} "
            f"inside the model. Trained: {_stages_in_words(config)}.\n"
        )


def _stages_in_words(config: TrainConfig) -> str:
    texts = []
    for stage in stages_of(config):
        count = stage.end - stage.begin
        what = "the classifier alone" if stage.frozen else _tuned(config)
        rate = "" if stage.share == 1 else f" at {stage.share:g} of the learning rate"
        decay = "" if stage.frozen else _decay(config)
        texts.append(f"{what} for {count} epoch{'s' * (count > 1)}{rate}{decay}")
    return ", then ".join(texts)


def _tuned(config: TrainConfig) -> str:
    if config.unfreeze is None:
        return "all layers"
    last = "stage" if config.unfreeze == 1 else f"{config.unfreeze} stages"
    return f"the last {last} and the classifier"


def _decay(config: TrainConfig) -> str:
    if config.layer_decay is None:
        return ""
    return f", times {config.layer_decay:g} for each stage before the classifier"


def _check_channels(start: Start, taken: int, given: int) -> None:
    if taken != given:
        raise InputError(
            f"{start.name} takes {taken} channel{'s' * (taken > 1)}, and the images of "
            f"{start.config.data} have {given}."
        )


def start_of(config: TrainConfig, model: keras.Model | None = None) -> Start | None:
    """Return what a run begins with; `None` for a network with fresh weights.

    Args:
        config: the settings.
        model: a classifier or backbone in place of `config.model`.

    Raises:
        InputError: if the weights or the model can't be had, don't fit the settings, or don't say
            what pixels they take.
    """
    if model is None and not config.begins_with_weights:
        for name in TUNING:
            if getattr(config, name) is not None:
                raise InputError(f"`{name}` needs `weights`, or a `.keras` file as `model`.")
        return None
    is_model = model is not None or is_model_file(config.model)
    if is_model and config.weights is not None:
        raise InputError("`weights` are for a network by its name: this `model` has its own.")
    if model is not None and config.model is not None:
        raise InputError(
            f"`model` of `train` takes the place of that of the settings, {config.model}: give one "
            "of them."
        )
    config = dataclasses.replace(
        config,
        freeze=FROZEN_EPOCHS if config.freeze is None else config.freeze,
        tuning_rate=config.tuning_rate or TUNING_RATE,
    )
    return _of_model(config, model) if is_model else _of_weights(config)


def _pixels(config: TrainConfig, own: Pixels, name: str) -> Pixels:
    """Return what the user says of the pixels, or else the weights; the size of the weights."""
    if config.pixels is None:
        if own.unknown:
            raise InputError(
                f"what pixels {name} takes is unknown: {own.origin}. Say it by `pixels`: "
                f"{', '.join(WORDS)}, or the name of the published weights that it began with, "
                "such as seresnet50.a1_in1k."
            )
        return own
    said = pixels_named(config.pixels)
    return dataclasses.replace(said, size=own.size or said.size)


def _side(pixels: Pixels, name: str) -> int | None:
    height, width = pixels.height_and_width or (None, None)
    if height != width:
        raise InputError(f"{name} takes images of {height}x{width}, training has squares only.")
    return height


# --- weights for a network of the catalog --------------------------------------------------------


def _of_weights(config: TrainConfig) -> Start:
    source = parse_source(config.weights, config.model)
    recipe = find_recipe(config.model) if config.model else source.recipe
    pixels = _pixels(config, source.pixels, str(source))
    fallback = config.defaults.image_size or max(SMALLEST, recipe.input_size)
    size = config.image_size or _side(pixels, str(source)) or fallback
    text = str(source)
    if source.path is not None:  # a run may go on in another folder
        key = f"::{source.key}" if source.key else ""
        text = f"{os.path.abspath(source.path)}{key}"

    def build(*, input_tensor: keras.KerasTensor, classes: int, dtype: str) -> keras.Model:
        # By the name of the row: what published weights say of crops and classes holds no more.
        return catalog.create(
            recipe.name,
            weights=source,
            fresh_classifier=True,
            adapt_input=True,
            input_tensor=input_tensor,
            classes=classes,
            dtype=dtype,
            name=recipe.name,
            **config.network_options,
        )

    settled = dataclasses.replace(config, model=recipe.name, weights=text, image_size=size)
    return Start(name=recipe.name, config=settled, pixels=pixels, build=build)


# --- a model -------------------------------------------------------------------------------------


def _of_model(config: TrainConfig, model: keras.Model | None) -> Start:
    if config.network_options or config.precision != "float32":
        raise InputError(
            "`ratio`, `placement`, `no_se` and `precision` are for a network by its name: a model "
            "has its own."
        )
    if model is None:
        assert config.model is not None
        path = Path(config.model).expanduser()
        if not path.is_file():
            raise InputError(f"`model`: there is no {config.model}.")
        model = load_archive(path)
        config = dataclasses.replace(config, model=os.path.abspath(path))
    name = config.model or model.name
    graph, shape = _body(model, name), tuple(model.inputs[0].shape)
    pixels = _pixels(config, pixels_of(model), name)
    size = _size_for(config, _side(pixels, name), shape[1], name)
    title = split_name(model.name)[0].removesuffix("_tuned")

    def build(*, input_tensor: keras.KerasTensor, classes: int, dtype: str) -> keras.Model:
        _check_channels(start, shape[-1], input_tensor.shape[-1])
        x = graph.build()(input_tensor)
        if len(x.shape) == 4:
            x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="pool")(x)
        dense = keras.layers.Dense(classes, activation="softmax", dtype="float32", name="classes")
        (source,) = keras.utils.get_source_inputs(input_tensor)
        return keras.Model(source, dense(x), name=f"{title}_tuned")

    settled = dataclasses.replace(config, image_size=size)
    start = Start(name=name, config=settled, pixels=pixels, build=build)
    return start


def _size_for(config: TrainConfig, known: int | None, fixed: int | None, name: str) -> int:
    """The size of the images: what the user says, or else the model, or else the data set."""
    if fixed and config.image_size not in (None, fixed):
        raise InputError(
            f"`image_size` must be {fixed}, which {name} takes, got {config.image_size}."
        )
    size = config.image_size or fixed or known or config.defaults.image_size
    if size is None:
        raise InputError(f"{name} takes images of any size: say which by `image_size`.")
    return size


def _body(model: keras.Model, name: str) -> Graph:
    """The model up to its classifier; a copy is built of it, on the devices of the run."""
    if not is_functional(model):
        raise InputError(f"`model`: {name} must be a functional or Sequential model of Keras.")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InputError(f"`model`: {name} must have one input and one output.")
    shape = tuple(model.inputs[0].shape)
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise InputError(
            f"`model`: {name} must take images, (N, H, W, C) of 1 or 3 channels, it takes {shape}."
        )
    graph = trace(model)
    (output,) = keras.tree.flatten(graph.outputs)
    graph.set_outputs(_features(graph, output, name))
    return graph


def _features(graph: Graph, output: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """The tensor that a classifier is put upon: maps, or what a global pool makes of them."""
    if len(output.shape) == 4:
        return output
    if isinstance(graph.producer(_skip(graph, output, BEFORE)).op, POOLS):
        return output
    node = graph.producer(_skip(graph, output, AFTER))
    if isinstance(node.op, keras.layers.Dense) and node.op.activation in CLASSIFIES:
        (features,) = node.inputs
        if isinstance(graph.producer(_skip(graph, features, BEFORE)).op, POOLS):
            return features
    raise InputError(
        f"`model`: what the classifier of {name} is can't be told: it must end with a Dense layer "
        "after a global pool. Give its backbone (include_top=False) in a file of its own."
    )


def _skip(graph: Graph, tensor: keras.KerasTensor, kinds: tuple[type, ...]) -> keras.KerasTensor:
    """The tensor before all layers of some kinds that end with this one."""
    while isinstance((node := graph.producer(tensor)).op, kinds):
        (tensor,) = node.inputs
    return tensor

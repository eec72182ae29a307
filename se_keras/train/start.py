"""The start of a run from published weights, a file or a model.

The images that training sees are whole central squares, resized bilinearly. Of what the weights
were made for, their size and their numbers are taken; these go into the model as its first layer,
so that it takes raw pixels.
"""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import keras

from se_keras import catalog
from se_keras.graph import Graph, Node, is_functional, trace
from se_keras.models.recipes import find_recipe
from se_keras.pixels import WORDS, gray_pixels, normalization_layer, pixels_named, pixels_of
from se_keras.support.arguments import did_you_mean
from se_keras.support.errors import InputError
from se_keras.support.files import neighbors
from se_keras.train.config import SMALLEST, TrainConfig, is_model_file
from se_keras.train.stages import stages_of
from se_keras.weights.preprocessing import Pixels
from se_keras.weights.readers.keras3 import load_archive
from se_keras.weights.source import parse_source, split_name

# Epochs in which the classifier alone is trained, where the user says nothing: its first gradients
# are noise, which would spoil what the other layers know, and it fits in a few epochs.
FROZEN_EPOCHS = 5
# Share of the learning rate at which all layers are trained then, where the user says nothing: with
# a smaller one they learn too little from few images (`benchmarks.fine_tuning`).
TUNING_RATE = 1.0
# Settings that are for such weights only.
TUNING = ("freeze", "tuning_rate", "layer_decay", "unfreeze", "pixels")
# What may stand after features or scores, and what a model without a classifier may end with.
SHAPES = (keras.layers.Dropout, keras.layers.Flatten, keras.layers.Reshape)
GIVES_FEATURES = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Flatten,
)
CLASSIFIES = tuple(map(keras.activations.get, ("linear", "softmax", "sigmoid")))


class Build(Protocol):
    """Make the network of prepared pixels, with a fresh classifier."""

    def __call__(
        self, *, input_tensor: keras.KerasTensor, classes: int, dtype: str
    ) -> keras.Model: ...


@dataclass(frozen=True, kw_only=True)
class Start:
    """The start of a run.

    Attributes:
        name: what `settings.json` and messages call it.
        config: the settings, with what this decides.
        pixels: what pixels the network takes.
        build: makes the network.
        classifier: in words, where the new classifier of a model stands.
    """

    name: str
    config: TrainConfig
    pixels: Pixels
    build: Build
    classifier: str = ""

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
        classifier = f" A new classifier {self.classifier}." if self.classifier else ""
        values = "{:.3g} to {:.3g}".format(*self.pixels.range or ())
        return (
            f"It begins with {weights}, on whole squares of {size} x {size}, pixels from {values} "
            f"inside the model.{classifier} Trained: {_stages_in_words(config)}.\n"
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
            f"`model` of `train` replaces the model of the settings, {config.model}: give one "
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
            hint = did_you_mean(config.model, neighbors(config.model))
            raise InputError(f"`model`: there is no {config.model}.{hint}")
        model = load_archive(path)
        config = dataclasses.replace(config, model=os.path.abspath(path))
    name = config.model or model.name
    (graph, classifier), shape = _body(model, name), tuple(model.inputs[0].shape)
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
    start = Start(name=name, config=settled, pixels=pixels, build=build, classifier=classifier)
    return start


def _size_for(config: TrainConfig, known: int | None, fixed: int | None, name: str) -> int:
    """Return the image size: what the user says, else the model, else the data set."""
    if fixed and config.image_size not in (None, fixed):
        raise InputError(
            f"`image_size` must be {fixed}, which {name} takes, got {config.image_size}."
        )
    size = config.image_size or fixed or known or config.defaults.image_size
    if size is None:
        raise InputError(f"{name} takes images of any size: say which by `image_size`.")
    return size


def _body(model: keras.Model, name: str) -> tuple[Graph, str]:
    """Return the model up to its classifier, and what becomes of that.

    A copy is built of it, on the devices of the run.
    """
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
    replaced = _cut_classifier(graph)
    if replaced is None:
        raise InputError(
            f"`model`: what the classifier of {name} is can't be told: the last layer with weights "
            "must be Dense, or a convolution of a pooled map, with softmax, sigmoid or nothing "
            "after it. Give its backbone (include_top=False) in a file of its own."
        )
    return graph, replaced


def _cut_classifier(graph: Graph) -> str | None:
    """Let a graph end before its classifier; say what the new one does, `None` if it is unclear."""
    (output,) = keras.tree.flatten(graph.outputs)
    if len(output.shape) == 4:
        return "stands on a global average of its maps"
    end = graph.producer(_skip(graph, output, _ends))
    if end.subgraph is not None and sum(node.op is end.op for node in graph.nodes) == 1:
        replaced = _cut_classifier(end.subgraph)
        graph.set_outputs(end.output)
        return replaced
    if _classifies(end):
        graph.set_outputs(end.inputs[0])
        return f"takes the place of {end.name!r}"
    last = graph.producer(_skip(graph, output, _is_dropout))
    return "stands on its features" if isinstance(last.op, GIVES_FEATURES) else None


def _skip(
    graph: Graph, tensor: keras.KerasTensor, passes: Callable[[Node], bool]
) -> keras.KerasTensor:
    """Return the tensor before all layers of some kind that end with this one."""
    while passes(node := graph.producer(tensor)):
        (tensor,) = node.inputs
    return tensor


def _ends(node: Node) -> bool:
    """Return whether a node may follow a classifier: probabilities of scores, in another shape."""
    if isinstance(node.op, keras.layers.Activation):
        return node.op.activation in CLASSIFIES
    shapes = isinstance(node.op, SHAPES) and _is_pooled(node)
    return shapes or isinstance(node.op, keras.layers.Softmax)


def _is_dropout(node: Node) -> bool:
    return isinstance(node.op, keras.layers.Dropout)


def _is_pooled(node: Node) -> bool:
    """Return whether a node takes one vector an image, whatever its rank."""
    return set(node.inputs[0].shape[1:-1]) <= {1}


def _classifies(node: Node) -> bool:
    """Return whether a node makes scores of classes out of one vector an image."""
    if isinstance(node.op, keras.layers.Conv2D):
        fits = _is_pooled(node) and set(node.output.shape[1:-1]) <= {1}
    else:
        fits = isinstance(node.op, keras.layers.Dense) and len(node.output.shape) == 2
    return fits and node.op.activation in CLASSIFIES

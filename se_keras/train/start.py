"""Start a run from published weights, a file or a model.

Training images are central squares, resized bilinearly to the size of the weights. The mean and
deviation of the weights become the first layer of the model, so that it takes raw pixels.
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
from se_keras.weights.source import WeightSource, parse_source, split_name

# Default number of epochs in which only the classifier is trained: its first gradients are noise,
# which would harm the other layers, and a few epochs are enough.
FROZEN_EPOCHS = 5
# Default factor of the learning rate after that: with a smaller one, few images teach too little
# (`benchmarks.fine_tuning`).
TUNING_RATE = 1.0
# Settings that need pretrained weights.
TUNING = ("freeze", "tuning_rate", "layer_decay", "unfreeze", "pixels")
# Layers that may follow features or scores, and layers at the end of a model without a classifier.
SHAPES = (keras.layers.Dropout, keras.layers.Flatten, keras.layers.Reshape)
GIVES_FEATURES = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Flatten,
)
CLASSIFIES = tuple(map(keras.activations.get, ("linear", "softmax", "sigmoid")))


class Build(Protocol):
    """A function that builds the network on prepared pixels, with a fresh classifier."""

    def __call__(
        self, *, input_tensor: keras.KerasTensor, classes: int, dtype: str
    ) -> keras.Model: ...


@dataclass(frozen=True, kw_only=True)
class Start:
    """The start of a run.

    Attributes:
        name: name in `settings.json` and in messages.
        config: the settings, completed by the start.
        pixels: pixels that the network takes.
        build: function that builds the network.
        classifier: description of the place of a model's new classifier in words.
    """

    name: str
    config: TrainConfig
    pixels: Pixels
    build: Build
    classifier: str = ""

    def prepare(self, pixels: keras.KerasTensor) -> keras.KerasTensor:
        """Normalize raw pixels for the network by a layer that `pixels_of` recognizes."""
        given, channels = self.pixels, pixels.shape[-1]
        if given.mean is None or given.std is None:  # unchanged: 255 x / 255
            mean, std = (0.0,) * channels, (1 / 255,) * channels
        else:  # adapt weights for three colors to gray images
            given = gray_pixels(given) if channels == 1 else given
            mean, std = given.mean, given.std
        _check_channels(self, len(mean), channels)
        numbers = Pixels(mean=mean, std=std, channels=channels)
        return normalization_layer(numbers, "channels_last")(pixels)

    def describe(self, config: TrainConfig) -> str:
        """Describe the start of the run and its stages; `config` is completed."""
        size, weights = config.image_size, config.weights or self.name
        classifier = f" A new classifier {self.classifier}." if self.classifier else ""
        values = "{:.3g} to {:.3g}".format(*self.pixels.range or ())
        return (
            f"It starts from {weights}, with central squares of {size} x {size} and pixels from "
            f"{values} inside the model.{classifier} Trained: {_stages_in_words(config)}.\n"
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
            f"`data`: images must have {taken} channel{'s' * (taken > 1)} for {start.name}, but "
            f"the images of {start.config.data} have {given}."
        )


def start_of(config: TrainConfig, model: keras.Model | None = None) -> Start | None:
    """Return the start of a run; `None` for a network with fresh weights.

    Args:
        config: the settings.
        model: a classifier or backbone instead of `config.model`.

    Raises:
        InputError: if the weights or the model can't be loaded, don't fit the settings, or have
            unknown pixels.
    """
    if model is None and not config.begins_with_weights:
        for name in TUNING:
            if getattr(config, name) is not None:
                raise InputError(f"`{name}` needs `weights`, or a `.keras` file as `model`.")
        return None
    is_model = model is not None or is_model_file(config.model)
    if is_model and config.weights is not None:
        raise InputError(
            "`weights` need a network by its name as `model`: this `model` has weights."
        )
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
    """Return the user's pixels, or else the pixels of the weights, in the size of the weights."""
    if config.pixels is None:
        if own.unknown:
            raise InputError(
                f"`pixels`: the pixels that {name} takes are unknown: {own.origin}. Give "
                f"{', '.join(WORDS)}, or the name of the published weights that it was trained "
                "from, such as seresnet50.a1_in1k."
            )
        return own
    said = pixels_named(config.pixels)
    return dataclasses.replace(said, size=own.size or said.size)


def _side(pixels: Pixels, name: str) -> int | None:
    height, width = pixels.height_and_width or (None, None)
    if height != width:
        raise InputError(f"`model`: {name} must take square images, got {height}x{width}.")
    return height


# --- weights for a network of the catalog --------------------------------------------------------


def _of_weights(config: TrainConfig) -> Start:
    source = parse_source(config.weights, config.model)
    recipe = find_recipe(config.model) if config.model else source.recipe
    _refuse_other_gates(config, source)
    pixels = _pixels(config, source.pixels, str(source))
    fallback = config.defaults.image_size or max(SMALLEST, recipe.input_size)
    size = config.image_size or _side(pixels, str(source)) or fallback
    text = str(source)
    if source.path is not None:  # a resumed run may start in another folder
        key = f"::{source.key}" if source.key else ""
        text = f"{os.path.abspath(source.path)}{key}"

    def build(*, input_tensor: keras.KerasTensor, classes: int, dtype: str) -> keras.Model:
        # Use the name of the row: the crop and classes of the published weights no longer apply.
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


def _refuse_other_gates(config: TrainConfig, source: WeightSource) -> None:
    """Refuse published weights of a network with other gates, before they are downloaded."""
    preset = source.preset
    if preset is None or config.attention is None:
        return
    attention = find_recipe(preset.recipe).attention
    if attention != config.attention:
        raise InputError(
            f"`attention` must be {attention!r}, which the weights {source} are for, got "
            f"{config.attention!r}."
        )


# --- a model -------------------------------------------------------------------------------------


def _of_model(config: TrainConfig, model: keras.Model | None) -> Start:
    if config.network_options or config.precision != "float32":
        raise InputError(
            "`ratio`, `placement`, `attention`, `no_se` and `precision` need a network by its "
            "name: a model keeps its own."
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
    """Return the image size: the user's, else the model's, else the data set's."""
    if fixed and config.image_size not in (None, fixed):
        raise InputError(
            f"`image_size` must be {fixed}, which {name} takes, got {config.image_size}."
        )
    size = config.image_size or fixed or known or config.defaults.image_size
    if size is None:
        raise InputError(f"`image_size` must be given, because {name} takes images of any size.")
    return size


def _body(model: keras.Model, name: str) -> tuple[Graph, str]:
    """Return the model up to its classifier, and a description of the new classifier.

    A copy of it is built, on the devices of the run.
    """
    if not is_functional(model):
        raise InputError(f"`model`: {name} must be a functional or Sequential model of Keras.")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InputError(f"`model`: {name} must have one input and one output.")
    shape = tuple(model.inputs[0].shape)
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise InputError(
            f"`model`: {name} must take images (N, H, W, C) of 1 or 3 channels, got {shape}."
        )
    graph = trace(model)
    replaced = _cut_classifier(graph)
    if replaced is None:
        raise InputError(
            f"`model`: the classifier of {name} can't be found: the last layer with weights must "
            "be Dense, or a convolution of a pooled map, with only softmax or sigmoid after it. "
            "Save its backbone (include_top=False) to a file and give that."
        )
    return graph, replaced


def _cut_classifier(graph: Graph) -> str | None:
    """Cut the classifier from a graph; describe the new one, or return `None` if it is unclear."""
    (output,) = keras.tree.flatten(graph.outputs)
    if len(output.shape) == 4:
        return "follows a global average of its maps"
    end = graph.producer(_skip(graph, output, _ends))
    if end.subgraph is not None and sum(node.op is end.op for node in graph.nodes) == 1:
        replaced = _cut_classifier(end.subgraph)
        graph.set_outputs(end.output)
        return replaced
    if _classifies(end):
        graph.set_outputs(end.inputs[0])
        return f"replaces {end.name!r}"
    last = graph.producer(_skip(graph, output, _is_dropout))
    return "follows its features" if isinstance(last.op, GIVES_FEATURES) else None


def _skip(
    graph: Graph, tensor: keras.KerasTensor, passes: Callable[[Node], bool]
) -> keras.KerasTensor:
    """Return the tensor before the layers of some kind that lead to this tensor."""
    while passes(node := graph.producer(tensor)):
        (tensor,) = node.inputs
    return tensor


def _ends(node: Node) -> bool:
    """Return whether a node may follow a classifier: softmax, sigmoid or a reshape."""
    if isinstance(node.op, keras.layers.Activation):
        return node.op.activation in CLASSIFIES
    shapes = isinstance(node.op, SHAPES) and _is_pooled(node)
    return shapes or isinstance(node.op, keras.layers.Softmax)


def _is_dropout(node: Node) -> bool:
    return isinstance(node.op, keras.layers.Dropout)


def _is_pooled(node: Node) -> bool:
    """Return whether a node takes one vector per image, of any rank."""
    return set(node.inputs[0].shape[1:-1]) <= {1}


def _classifies(node: Node) -> bool:
    """Return whether a node computes scores of classes from one vector per image."""
    if isinstance(node.op, keras.layers.Conv2D):
        fits = _is_pooled(node) and set(node.output.shape[1:-1]) <= {1}
    else:
        fits = isinstance(node.op, keras.layers.Dense) and len(node.output.shape) == 2
    return fits and node.op.activation in CLASSIFIES

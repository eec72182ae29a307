"""`record_excitations`: measure the gates of a model over images, in one pass."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, tree

from se_keras.explain.statistics import CLOSED_BOUND, OPEN_BOUND, ExcitationStats, LayerStats
from se_keras.graph import Graph, Node, in_model_order, nested_inputs, shape_fits, trace
from se_keras.rewrite.squeeze_excite import Gate, find_gates, open_layers
from se_keras.support.arguments import boolean, texts
from se_keras.support.batches import read_batches
from se_keras.support.errors import InputError
from se_keras.support.progress import progress_style

BATCH_SIZE = 32  # batch size for arrays
UNLABELED_CLASS = "all"


def record_excitations(
    model: keras.Model,
    data: Any,
    *,
    class_names: Sequence[str] | None = None,
    verbose: bool = True,
) -> ExcitationStats:
    """Measure the gates of a model's SE layers for each layer, class and channel.

    SE layers are `SqueezeExcite`, its kin, and SE in layers of Keras, as in the MobileNetV3 and
    EfficientNet of keras.applications: a product of a map and one number per channel, which layers
    with weights compute from a global pool of the map. If a gate differs between positions, as in
    `SpatialChannelSqueezeExcite`, the statistics cover all positions.

    The model runs once over the data in inference mode. Only counts, means and sums of squares are
    stored (in float64), so the memory does not depend on the number of images.

    Args:
        model: a functional or Sequential model with SE layers, also in nested models. It is not
            changed.
        data: batches of images, as the model takes them, and labels: a `tf.data.Dataset`, a
            `keras.utils.PyDataset` or any other iterable; or two arrays, `(images, labels)`. For
            several inputs `images` is a list, a tuple or a dict of arrays. Labels are class numbers
            (N,) or rows of scores (N, classes), of which the largest selects the class. Without
            labels all images have the class "all".
        class_names: names of the classes 0, 1, ...; `None` for their numbers.
        verbose: whether to show a progress bar.

    Returns:
        The statistics, which print as a table of the layers.

    Raises:
        InputError: if the model is not functional or has no SE layer; if the data has no image, is
            endless or does not fit the model; if labels are invalid or have no name; or if gates
            are not finite.

    Example:

    >>> import keras, numpy as np
    >>> import se_keras
    >>> x = keras.Input((4, 4, 8))
    >>> model = keras.Model(x, se_keras.SqueezeExcite(4, kernel_initializer="zeros", name="se")(x))
    >>> images, labels = np.zeros((6, 4, 4, 8), "float32"), np.array([0, 0, 0, 1, 1, 1])
    >>> stats = se_keras.record_excitations(model, (images, labels), verbose=False)
    >>> print(stats)
    layer  channels  mean   std    variability  specificity  below 0.1  above 0.9
    se            8  0.500  0.000  0.000        0.000        0.000      0.000
    >>> stats["se"].mean.shape  # classes, channels
    (2, 8)
    """
    verbose = boolean("verbose", verbose)
    if class_names is not None:
        class_names = texts("class_names", class_names, "the names of the classes, or None")
    graph = trace(model)
    open_layers(graph)
    gates = GateModel(graph)
    totals = [_Totals(name, gate.scale) for name, gate in gates.watched.items()]
    labeled = set()
    for images, labels in _show_progress(data, len(tree.flatten(gates.graph.inputs)), verbose):
        _check_images(images, gates.graph)
        if not len(tree.flatten(images)[0]):
            continue
        numbers = _class_numbers(images, labels, class_names)
        labeled.add(labels is not None)
        if len(labeled) == 2:
            raise InputError("`data` must have labels in all batches, or in none.")
        for total, values in zip(totals, gates.predict_on_batch(images), strict=True):
            total.add({key: array.astype("float64") for key, array in values.items()}, numbers)
    if not labeled:
        raise InputError("`data` must have at least one image, got none.")
    present = sorted(totals[0].by_class)
    named = class_names or range(present[-1] + 1)
    classes = (
        tuple(str(named[number]) for number in present) if True in labeled else (UNLABELED_CLASS,)
    )
    return ExcitationStats(classes=classes, layers=tuple(total.result() for total in totals))


# --- the gates of a batch ------------------------------------------------------------------------

Watched = dict[Node, tuple[Gate, list[dict[str, Any]]]]


class GateModel(keras.Model):
    """A model that returns the gates of all SE layers of a graph, as `_numbers_of` describes.

    For a layer in a nested model that is called k times, it returns k N rows, one call after the
    other. It calls the layers of the traced model on arrays, so nothing is copied, and no call on
    symbolic tensors is recorded.

    Attributes:
        graph: the graph.
        watched: the SE layers by their names with path.
    """

    def __init__(self, graph: Graph):
        super().__init__(autocast=False)
        self.graph = graph
        # This makes Keras track the weights.
        self.networks = [inner.model for _, inner in graph.graphs()]
        self.watched = gates_of_model(graph)
        # Compiling by XLA takes seconds, and saves nothing on small images.
        self.jit_compile = False

    def call(self, inputs: Any) -> list[dict[str, Any]]:
        tensors = tree.flatten(self.graph.inputs)
        given = in_model_order(inputs, self.graph.inputs)
        cast = [keras.ops.cast(x, tensor.dtype) for x, tensor in zip(given, tensors, strict=True)]
        watched: Watched = {gate.node: (gate, []) for gate in self.watched.values()}
        _run_graph(self.graph, cast, watched)
        return [
            {key: keras.ops.concatenate([call[key] for call in found]) for key in found[0]}
            for _, found in watched.values()
        ]


def gates_of_model(graph: Graph) -> dict[str, Gate]:
    """Return the SE layers of a graph and of its nested graphs, by name with path.

    Raises:
        InputError: if there are no SE layers.
    """
    gates = find_gates(graph)
    if not gates:
        raise InputError(
            f"`model`: {graph.model.name!r} must have an SE layer: `SqueezeExcite`, one of its "
            "kin, or a product of a map and one number per channel, which layers with weights "
            "compute from a global pool of the map."
        )
    return gates


def _run_graph(
    graph: Graph, inputs: Sequence[Any], watched: Watched, training: Any = None
) -> list[Any]:
    """Compute a graph's outputs as a flat list, and append all gates to their lists."""
    values = dict(zip(tree.flatten(graph.inputs), inputs, strict=True))

    def value(leaf: Any) -> Any:
        return values[leaf] if isinstance(leaf, KerasTensor) else leaf

    for node in graph.nodes:
        if not node.inputs:
            continue
        if node.subgraph is not None:
            given = [values[tensor] for tensor in nested_inputs(node)]
            masks = tree.flatten(tree.map_structure(value, node.kwargs.get("mask")))
            given = [_hand_on(x, mask) for x, mask in zip_longest(given, masks)]
            inner = node.kwargs.get("training") if training is None else training
            outputs = _run_graph(node.subgraph, given, watched, inner)
        else:
            args, kwargs = tree.map_structure(value, (node.args, node.kwargs))
            if training is not None and isinstance(node.op, keras.Layer):
                kwargs = {**kwargs, "training": training}
            outputs = tree.flatten(node.op(*args, **kwargs))
            if node in watched:
                gate, found = watched[node]
                found.append(_numbers_of(gate, values, kwargs.get("mask")))
        values.update(zip(node.outputs, outputs, strict=True))
    return [values[tensor] for tensor in tree.flatten(graph.outputs)]


class _MaskTaker(keras.layers.Layer):
    """A layer that calls a function of a tensor and its mask, which Keras passes to it."""

    def __init__(self, function: Callable[[Any, Any], Any]):
        super().__init__(autocast=False)
        self.supports_masking = True
        self.function = function

    def call(self, x: Any, mask: Any = None) -> Any:
        return self.function(x, mask)


def _hand_on(x: Any, mask: Any) -> Any:
    return x if mask is None else _MaskTaker(lambda x, mask: x)(x, mask=mask)


def _numbers_of(gate: Gate, values: Mapping[KerasTensor, Any], mask: Any) -> dict[str, Any]:
    """Return the "mean" gate of each channel in a call, (N, C).

    If a gate differs between positions, also return its "variance" and the shares of "closed" and
    "open" gates over the positions, (N, C); and the "map", the mean over the channels.
    """
    if gate.factor is None:
        factor = _MaskTaker(gate.node.op.gate)(values[gate.x], mask=mask)
        factor = keras.ops.moveaxis(factor, gate.axis, -1)
    else:
        factor = keras.ops.reshape(values[gate.factor], (-1, gate.channels))
    double = keras.backend.standardize_dtype(factor.dtype) == "float64"
    factor = keras.ops.cast(factor, "float64" if double else "float32")
    positions = tuple(range(1, len(factor.shape) - 1))
    if all(factor.shape[axis] == 1 for axis in positions):
        return {"mean": keras.ops.reshape(factor, (-1, gate.channels))}
    relative = factor / (gate.scale or 1.0)
    of_channels = {"closed": relative < CLOSED_BOUND, "open": relative > OPEN_BOUND, "mean": factor}
    return {
        **{
            key: keras.ops.mean(keras.ops.cast(numbers, factor.dtype), axis=positions)
            for key, numbers in of_channels.items()
        },
        "variance": keras.ops.var(factor, axis=positions),
        "map": keras.ops.mean(factor, axis=-1),
    }


# --- streaming statistics ------------------------------------------------------------------------


class _Moments:
    """Count, mean, sum of squared deviations, and number of extreme values of vectors."""

    def __init__(self, channels: int):
        self.count = 0
        self.mean, self.squares, self.closed, self.open = np.zeros((4, channels))

    def add(self, values: Mapping[str, np.ndarray]) -> None:
        """Add vectors, or means of vectors with their variance, and their extreme shares."""
        # Chan, Golub and LeVeque 1979 ("Updating formulae and a pairwise algorithm for computing
        # sample variances"): combine the means and sums of squares of two parts.
        means = values["mean"]
        number, mean = len(means), means.mean(axis=0)
        change, total = mean - self.mean, self.count + number
        self.squares += ((means - mean) ** 2).sum(axis=0)
        self.squares += change**2 * (self.count * number / total)
        if "variance" in values:
            self.squares += values["variance"].sum(axis=0)
        self.mean += change * (number / total)
        self.count = total
        self.closed += values["closed"].sum(axis=0)
        self.open += values["open"].sum(axis=0)


class _Totals:
    """The running statistics of one layer, by class number."""

    def __init__(self, name: str, gate_scale: float):
        self.name, self.gate_scale = name, gate_scale
        self.by_class: dict[int, _Moments] = {}
        self.maps: dict[int, np.ndarray] | None = {}  # sums

    def add(self, values: Mapping[str, np.ndarray], numbers: np.ndarray) -> None:
        """Add a batch: gates (k N, C) of k calls one after the other, and classes (N,)."""
        means = values["mean"]
        if not np.isfinite(means).all():
            raise InputError(f"`model`: the gates of {self.name!r} are not finite on these images.")
        relative = means / (self.gate_scale or 1.0)
        values = {"closed": relative < CLOSED_BOUND, "open": relative > OPEN_BOUND, **values}
        numbers = np.tile(numbers, len(means) // len(numbers))
        for number in np.unique(numbers).tolist():
            moments = self.by_class.setdefault(number, _Moments(means.shape[1]))
            chosen = {key: array[numbers == number] for key, array in values.items()}
            moments.add(chosen)
            self._add_map(number, chosen.get("map"))

    def _add_map(self, number: int, maps: np.ndarray | None) -> None:
        sizes = {part.shape for part in (self.maps or {}).values()}
        if maps is None or sizes - {maps.shape[1:]}:
            self.maps = None  # images of several sizes have no mean map
        if self.maps is not None and maps is not None:
            self.maps[number] = self.maps.get(number, 0) + maps.sum(axis=0)

    def result(self) -> LayerStats:
        present = sorted(self.by_class)
        classes = [self.by_class[number] for number in present]
        count = np.array([one.count for one in classes])
        per_image = 1 / count[:, np.newaxis]
        maps = self.maps and [
            self.maps[n] / one.count for n, one in zip(present, classes, strict=True)
        ]
        return LayerStats(
            name=self.name,
            gate_scale=self.gate_scale,
            count=count,
            mean=np.stack([one.mean for one in classes]),
            std=np.sqrt(np.stack([one.squares for one in classes]) * per_image),
            closed=np.stack([one.closed for one in classes]) * per_image,
            open=np.stack([one.open for one in classes]) * per_image,
            map=np.stack(maps) if maps else None,
        )


# --- batches and labels --------------------------------------------------------------------------


def _show_progress(data: Any, inputs: int, verbose: bool) -> Iterator[tuple[Any, Any]]:
    """Yield batches of images and labels, with a progress bar."""
    batches, number = _read_data(data, inputs)
    style = progress_style() if verbose else 0
    progress = keras.utils.Progbar(number, verbose=style, unit_name="batch")
    done = 0
    for done, batch in enumerate(batches, start=1):
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(batch)
        yield images, labels
        progress.update(done, finalize=False)
    if done:
        progress.target = done
        progress.update(done, finalize=True)


def _read_data(data: Any, inputs: int) -> tuple[Iterable, float | None]:
    """Return batches and their number; `None` if it is unknown."""
    arrays = _whole_arrays(data, inputs)
    if arrays is not None:
        lengths = {len(array) for array in tree.flatten(arrays[0])}
        if len(lengths) > 1:
            raise InputError(f"`data` must have equally many images for each input, got {lengths}.")
        starts = range(0, lengths.pop(), BATCH_SIZE)
        return (_rows(arrays, start) for start in starts), len(starts)
    wanted = "batches of images and labels, or NumPy arrays: the images, one each input, and labels"
    batches, number = read_batches("data", data, wanted)
    if number == math.inf:
        raise InputError("`data` must be finite, got an endless data set.")
    return batches, number


def _rows(arrays: tuple, start: int) -> tuple:
    return tree.map_structure(lambda array: array[start : start + BATCH_SIZE], arrays)


def _whole_arrays(data: Any, inputs: int) -> tuple | None:
    """Return images and labels, or only images; `None` if the data are not arrays."""
    if _are_images(data, inputs):
        return (data,)
    if isinstance(data, tuple) and 1 <= len(data) <= 2 and _are_images(data[0], inputs):
        return data if all(isinstance(labels, np.ndarray) for labels in data[1:]) else None
    return None


def _are_images(data: Any, inputs: int) -> bool:
    """Return whether the data is an array, or an array for each input, by name or in order."""
    if isinstance(data, np.ndarray):
        return data.ndim > 0
    values = list(data.values() if isinstance(data, Mapping) else data) if _holds(data) else []
    several = len(values) == inputs and (inputs > 1 or isinstance(data, Mapping))
    return several and all(isinstance(value, np.ndarray) for value in values)


def _holds(data: Any) -> bool:
    return isinstance(data, Mapping | list | tuple)


def _check_images(images: Any, graph: Graph) -> None:
    expected = [tuple(tensor.shape) for tensor in tree.flatten(graph.inputs)]
    arrays = [keras.ops.convert_to_numpy(x) for x in in_model_order(images, graph.inputs)]
    got = [array.shape for array in arrays]
    if len(got) != len(expected) or not all(map(shape_fits, got, expected)):
        raise InputError(f"`data` must have batches of the shapes {expected}, got {got}.")
    # Check the images too, because a fused ReLU can turn NaN into 0 before any gate.
    if not all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f"):
        raise InputError("`data` must have finite numbers, got NaN or infinity.")


def _class_numbers(images: Any, labels: Any, class_names: Sequence[str] | None) -> np.ndarray:
    """Return the class of each image of a batch, (N,)."""
    number = len(tree.flatten(images)[0])
    if labels is None:
        return np.zeros(number, int)
    numbers = keras.ops.convert_to_numpy(labels)
    if numbers.ndim == 2 and numbers.shape[1] > 1:
        numbers = numbers.argmax(axis=1)
    numbers = numbers.reshape(len(numbers), -1)
    whole = numbers.dtype.kind in "iubf" and np.all(numbers == numbers.astype(int))
    if numbers.shape != (number, 1) or not whole or numbers.min(initial=0) < 0:
        raise InputError(
            f"`data`: labels of {number} images must be class numbers or rows of scores, got "
            f"{numbers.dtype} of shape {tuple(labels.shape)}."
        )
    if class_names is not None and numbers.max(initial=0) >= len(class_names):
        raise InputError(
            f"`class_names` must have a name for each class, got {len(class_names)} names, but an "
            f"image of class {int(numbers.max())}."
        )
    return numbers[:, 0].astype(int)

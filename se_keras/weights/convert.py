"""Convert between the tensors of a file and the variables of a model: a plan first, then all of it.

A conversion either succeeds as a whole or changes nothing.
"""

import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import numpy as np

from se_keras.models.recipes import RECIPES
from se_keras.support.arguments import boolean, instance_of
from se_keras.support.arguments import path as checked_path
from se_keras.support.errors import InputError, shown
from se_keras.support.files import written_beside
from se_keras.support.tables import format_table
from se_keras.weights.file_names import NETWORK, FileNames, beginning, find_names
from se_keras.weights.identify import (
    TRAIT_LAYERS,
    PossibleTraits,
    Shape,
    Traits,
    builders_that_fit,
    differences,
    signature_of_shapes,
    traits_of_architecture,
    traits_of_layers,
)
from se_keras.weights.input_channels import kernel_to_adapt, with_adapted_input
from se_keras.weights.key_maps import (
    CLASSIFIER,
    COUNTER,
    SCHEMES,
    TIMM_KEY_MAPS,
    KeyMap,
    Layout,
)
from se_keras.weights.readers import Checkpoint, Tensor
from se_keras.weights.source import Weights, parse_source, split_name

HALVES = ("float16", "bfloat16")
FLOATS = (*HALVES, "float32", "float64")
KEPT_IN_MEMORY = 2**23  # bytes


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One tensor of a file and the variable that takes it.

    Attributes:
        source: name of the tensor.
        source_shape: shape of the tensor.
        target: path of the variable.
        target_shape: shape of the variable.
        layout: how the tensor becomes the variable.
    """

    source: str
    source_shape: Shape
    target: str
    target_shape: Shape
    layout: Layout


@dataclass(frozen=True, kw_only=True)
class Ignored:
    """A tensor of a file that no variable takes, and the reason why it may be ignored."""

    source: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ConversionPlan:
    """The variable for each tensor; prints as a table.

    Attributes:
        scheme: the naming scheme of the tensors.
        assignments: each used tensor once, with the variable that it sets.
        ignored: all other tensors.
        notes: sentences on the choices that were made within the file.
    """

    scheme: str
    assignments: tuple[Assignment, ...]
    ignored: tuple[Ignored, ...] = ()
    notes: tuple[str, ...] = ()

    def apply(self, model: keras.Model, checkpoint: Checkpoint) -> None:
        """Set the variables after every tensor has been read and checked.

        If this fails, `put_back_on_failure` restores the variables.

        Args:
            model: the model that the plan was made for, or one with the same variables.
            checkpoint: the open file, or one with the same tensors.

        Raises:
            InputError: if the model lacks one of the variables, or a tensor can't be read or has
                numbers that no trained network has.
        """
        self._refuse_other_model(_shapes(model))
        _refuse_untrained(self, checkpoint)
        variables = {variable.path: variable for variable in model.weights}
        for assignment in self.assignments:
            values = assignment.layout.to_keras(checkpoint.read(assignment.source))
            variables[assignment.target].assign(values)

    def _refuse_other_model(self, shapes: Mapping[str, Shape]) -> None:
        for row in self.assignments:
            if shapes.get(row.target) != row.target_shape:
                raise InputError(
                    "`model` must be a model like the one that the plan was made for: this one has "
                    f"no variable {row.target!r} of shape {_text(row.target_shape)}."
                )

    def __str__(self) -> str:
        rows = [
            (a.source, _text(a.source_shape), a.target, _text(a.target_shape), a.layout.name)
            for a in self.assignments
        ]
        table = format_table(("tensor", "shape", "variable", "shape", "transform"), rows)
        reasons = Counter(ignored.reason for ignored in self.ignored)
        lines = [f"ignored: {count} ({reason})" for reason, count in reasons.items()]
        head = f"{len(rows)} tensors, named as in {self.scheme}"
        return "\n".join([head, *self.notes, table, *lines])


def load_weights(
    model: keras.Model,
    source: Weights,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
) -> ConversionPlan:
    """Load the weights of a file into a model: all of them, or none and an error.

    Args:
        model: a network of this package, or one whose layers have the same names.
        source: `"imagenet"`, the name of published weights such as `"seresnet50.a1_in1k"`,
            `"hf://owner/repo[@revision]"`, or the path of a `.safetensors`, `.pth`, `.pt`, `.bin`,
            `.weights.h5`, `.keras` or (of classification_models) `.h5` file; `"file.pth::key"`
            picks one of several sets of weights in a PyTorch file. `"imagenet"` needs a model
            whose name is in the catalog. If the model has its default name, loading published
            weights renames it, for example to `"seresnet50.a1_in1k"`, so that
            `se_keras.pixels_of` recognizes them.
        fresh_classifier: keep the model's classifier and ignore the classifier of the file.
        adapt_input: adapt the first kernel from three colors to the model's number of channels,
            as timm does: one channel gets the sum of the three kernels; for more channels they
            are repeated and scaled.

    Returns:
        The plan that was carried out.

    Raises:
        InputError: if the file is missing or damaged, if a tensor or a variable is left over, or
            if a shape or type differs. The model then keeps its weights.

    Example:

    >>> import tempfile
    >>> import se_keras
    >>> model = se_keras.SEResNet20(input_shape=(8, 8, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save_weights(f"{folder}/model.weights.h5")
    ...     plan = se_keras.load_weights(model, f"{folder}/model.weights.h5")
    >>> len(plan.assignments), len(plan.ignored)
    (133, 0)
    """
    fresh_classifier = boolean("fresh_classifier", fresh_classifier)
    adapt_input = boolean("adapt_input", adapt_input)
    instance_of("model", model, keras.Model, "a Keras model")
    recipe, _ = split_name(model.name)
    parsed = parse_source(source, recipe, argument="source")
    with parsed.open() as checkpoint:
        plan = plan_conversion(
            model, checkpoint, fresh_classifier=fresh_classifier, adapt_input=adapt_input
        )
        with put_back_on_failure(model.weights):
            plan.apply(model, checkpoint)
    if recipe in {row.name for row in RECIPES}:  # else the user chose the name
        model.name = parsed.model_name(recipe) or recipe
    return plan


def plan_conversion(
    model: keras.Model,
    checkpoint: Checkpoint,
    *,
    fresh_classifier: bool = False,
    adapt_input: bool = False,
) -> ConversionPlan:
    """Match the tensors of a file with the variables of a model.

    Args:
        model: the model, which is not changed.
        checkpoint: an open file, whose values are not read.
        fresh_classifier: leave out the classifier.
        adapt_input: adapt the first kernel to the number of channels that the model takes.

    Raises:
        InputError: if anything does not fit; the message lists every mismatch in a table.
    """
    tensors = checkpoint.tensors
    key_map = _known_key_map(checkpoint)
    if boolean("adapt_input", adapt_input):
        key_map = with_adapted_input(key_map, model, _shapes_of_tensors(checkpoint))
    shapes = _shapes(model)
    if fresh_classifier:
        _refuse_without_classifier(model, shapes)
        shapes = {path: shape for path, shape in shapes.items() if not _is_in_classifier(path)}
    names = {path: name for path, name in key_map.names(model).items() if path in shapes}
    ignored = _find_ignored(key_map, tensors, names, fresh_classifier)
    problems = [
        *_problems_of_variables(key_map, names, shapes, tensors),
        *_problems_of_tensors(tensors, names, ignored),
        *_problems_of_types(model, tensors, names),
    ]
    different = _differences(model, checkpoint, key_map)
    if problems or different:
        raise InputError(_complaint(model, checkpoint, key_map, problems, different))
    return ConversionPlan(
        scheme=key_map.name,
        assignments=_assignments(key_map, names, shapes),
        ignored=tuple(Ignored(source=name, reason=reason) for name, reason in ignored.items()),
        notes=(*checkpoint.notes, *key_map.notes, *_note_on_twins(checkpoint, key_map)),
    )


def _refuse_untrained(plan: ConversionPlan, checkpoint: Checkpoint) -> None:
    """Refuse NaN, infinities and negative variances: a network with them returns NaN or nonsense.

    They come from a training that diverged or from a damaged file.
    """
    wrong: Counter[str] = Counter()
    for assignment in plan.assignments:
        values = checkpoint.read(assignment.source)
        right = np.isfinite(values)
        if assignment.target.endswith("/moving_variance"):
            right &= values >= 0
        if not right.all():
            wrong[assignment.source] = right.size - np.count_nonzero(right)
    if wrong:
        raise InputError(
            f"{checkpoint.source}: no trained network has NaN, infinite numbers or negative "
            f"variances, but this file has {wrong.total():,}: in {', '.join(list(wrong)[:3])}"
            f"{', ...' if len(wrong) > 3 else ''}. Nothing was loaded."
        )


@contextmanager
def put_back_on_failure(variables: list[keras.Variable]) -> Iterator[None]:
    """Restore the variables, bit for bit, if the body fails.

    Large copies are kept on disk, so that memory holds one model and not two.
    """
    with tempfile.SpooledTemporaryFile(max_size=KEPT_IN_MEMORY) as kept:
        for variable in variables:
            kept.write(keras.ops.convert_to_numpy(variable).reshape(-1).view("uint8"))
        try:
            yield
        except BaseException:
            kept.seek(0)
            for variable in variables:
                old = keras.ops.convert_to_numpy(variable)
                variable.assign(np.frombuffer(kept.read(old.nbytes), old.dtype).reshape(old.shape))
            raise


def classes_of(checkpoint: Checkpoint) -> int | None:
    """Return the number of classes of the file's classifier; `None` if it has no classifier."""
    return _classes(shapes_as_ours(checkpoint, _key_map(checkpoint)))


def traits_of_model(model: keras.Model) -> Traits:
    layers = {layer.name: layer for layer in model.layers}
    told = layers.keys() & TRAIT_LAYERS
    return traits_of_layers({name: layers[name].get_config() for name in told})


# --- the network of a file -----------------------------------------------------------------------


def _traits_of_file(checkpoint: Checkpoint, key_map: KeyMap) -> PossibleTraits:
    """Return the traits that the names and contents of a file show."""
    return {**key_map.traits, **checkpoint.traits}


def _differences(
    model: keras.Model, checkpoint: Checkpoint, key_map: KeyMap
) -> list[tuple[str, str, str]]:
    found = traits_of_model(model)
    of_file = differences(_traits_of_file(checkpoint, key_map), found)
    of_source = differences(traits_of_architecture(checkpoint.architecture), found)
    return list(dict.fromkeys([*of_file, *of_source]))


def _builders_that_fit(checkpoint: Checkpoint, key_map: KeyMap) -> list[str]:
    said = traits_of_architecture(checkpoint.architecture)
    traits = {**_traits_of_file(checkpoint, key_map), **said}
    return builders_that_fit(shapes_as_ours(checkpoint, key_map), traits)


def _note_on_twins(checkpoint: Checkpoint, key_map: KeyMap) -> list[str]:
    """Return a note if several networks of the catalog fit the file: only the user knows which."""
    fit = _builders_that_fit(checkpoint, key_map)
    said = ""
    if checkpoint.architecture:
        said = (
            f", and its config.json names {checkpoint.architecture!r}, which is not in the catalog"
        )
    if len(fit) < 2:
        return []
    return [
        f"{' and '.join(fit)} have these names and shapes: the file does not show which one it "
        f"is{said}."
    ]


# --- to timm -------------------------------------------------------------------------------------


def plan_for_timm(model: keras.Model) -> ConversionPlan:
    """Find timm's name for each variable.

    Raises:
        InputError: if timm has no such network.
    """
    traits, shapes = traits_of_model(model), _shapes(model)
    for key_map in TIMM_KEY_MAPS:
        names = key_map.names(model)
        if not differences(key_map.traits, traits) and None not in names.values():
            rows = _assignments(key_map, names, shapes)
            return ConversionPlan(scheme=key_map.name, assignments=rows)
    parts = "; ".join(f"{what}: {how}" for what, how in traits.items())
    raise InputError(
        f"timm has no network like {model.name}{f' ({parts})' if parts else ''}: its names cover "
        f"{', '.join(row.name for row in TIMM_KEY_MAPS)}."
    )


def save_timm(model: keras.Model, path: str | os.PathLike) -> ConversionPlan:
    """Write the weights under timm's names, so that timm can load them into the same network.

    Args:
        model: a network that timm has too.
        path: the `.safetensors` file to write.

    Returns:
        The plan that was carried out, which reads the variables and writes the tensors.

    Raises:
        InputError: if timm has no such network, or the file's name does not end with
            `.safetensors`.

    Example:

    >>> import tempfile
    >>> import se_keras
    >>> model = se_keras.create("seresnet18", classes=5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plan = se_keras.save_timm(model, f"{folder}/model.safetensors")
    >>> plan.assignments[0].source, plan.assignments[0].source_shape
    ('conv1.weight', (64, 3, 7, 7))
    """
    from safetensors.numpy import save_file

    instance_of("model", model, keras.Model, "a Keras model")
    file = checked_path("path", path)
    if file.suffix != ".safetensors":
        raise InputError(
            f"`path`: the file for timm must end with .safetensors, got {shown(str(file))}."
        )
    plan = plan_for_timm(model)
    variables = {variable.path: variable for variable in model.weights}
    tensors = {}
    for row in plan.assignments:
        values = keras.ops.convert_to_numpy(variables[row.target].value)
        tensors[row.source] = np.ascontiguousarray(row.layout.from_keras(values))
        if row.source.endswith(".running_mean"):
            counter = row.source.removesuffix("running_mean") + COUNTER
            tensors[counter] = np.array(0, "int64")  # unknown, but timm expects the tensor
    with written_beside(file) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})
    return plan


# --- parts of a plan -----------------------------------------------------------------------------


def _key_map(checkpoint: Checkpoint) -> FileNames | None:
    try:
        return find_names(_shapes_of_tensors(checkpoint))
    except InputError as error:
        raise InputError(f"{checkpoint.source}: {error}") from error


def _known_key_map(checkpoint: Checkpoint) -> FileNames:
    key_map = _key_map(checkpoint)
    if key_map is None:
        said = f" According to its source, {checkpoint.stranger}" if checkpoint.stranger else ""
        raise InputError(
            f"{checkpoint.source}: its tensor names "
            f"({', '.join(sorted(checkpoint.tensors)[:3])}, ...) match none of the known schemes: "
            f"{', '.join(SCHEMES)}.{said}"
        )
    return key_map


def _shapes_of_tensors(checkpoint: Checkpoint) -> dict[str, Shape]:
    return {name: tensor.shape for name, tensor in checkpoint.tensors.items()}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One row of the table of mismatches."""

    what: str
    tensor: str | None = None
    found: str | None = None
    variable: str | None = None
    wanted: str | None = None


def _shapes(model: keras.Model) -> dict[str, Shape]:
    shapes = {variable.path: tuple(variable.shape) for variable in model.weights}
    if len(shapes) != len(model.weights):
        raise InputError(
            f"`model`: some variables of {model.name} have the same path; give its layers unique "
            "names."
        )
    return shapes


def _is_in_classifier(path: str | None) -> bool:
    return path is not None and path.startswith(f"{CLASSIFIER}/")


def _refuse_without_classifier(model: keras.Model, shapes: Mapping[str, Shape]) -> None:
    if not any(map(_is_in_classifier, shapes)):
        raise InputError(
            f"`fresh_classifier` must be False for {model.name}, which has no classifier."
        )


def _assignment(key_map: KeyMap, name: str, path: str, shape: Shape) -> Assignment:
    layout = key_map.layout(path, len(shape))
    return Assignment(
        source=name,
        source_shape=layout.source_shape(shape),
        target=path,
        target_shape=shape,
        layout=layout,
    )


def _assignments(
    key_map: KeyMap, names: Mapping[str, str | None], shapes: Mapping[str, Shape]
) -> tuple[Assignment, ...]:
    """Return an assignment for each variable that has a name in the file."""
    return tuple(
        _assignment(key_map, name, path, shapes[path])
        for path, name in names.items()
        if name is not None
    )


def _find_ignored(
    key_map: FileNames,
    tensors: Collection[str],
    names: Mapping[str, str | None],
    fresh_classifier: bool,
) -> dict[str, str]:
    """Return the tensors that may be ignored, with the reasons."""
    headless = not any(map(_is_in_classifier, names))
    kept = (
        "the model keeps its own classifier" if fresh_classifier else "the model has no classifier"
    )
    is_network = headless and {beginning(path) for path in names} <= NETWORK
    expected = {name for name in names.values() if name is not None}
    network = key_map.network(expected)

    def reason_to_ignore(name: str) -> str | None:
        reason = key_map.reason_to_ignore(name, expected)
        if reason is not None:
            return reason
        if headless and _is_in_classifier(key_map.ours(name)):
            return kept
        outside = is_network and key_map.is_outside(name, network)
        return "not a part of the network" if outside else None

    reasons = ((name, reason_to_ignore(name)) for name in sorted(set(tensors) - expected))
    return {name: reason for name, reason in reasons if reason is not None}


def _problems_of_variables(
    key_map: KeyMap,
    names: Mapping[str, str | None],
    shapes: Mapping[str, Shape],
    tensors: Mapping[str, Tensor],
) -> list[Problem]:
    problems = []
    for path, name in names.items():
        if name is None:
            problems.append(
                Problem(what="no name for it", variable=path, wanted=_text(shapes[path]))
            )
            continue
        wanted = _assignment(key_map, name, path, shapes[path]).source_shape
        found = tensors[name].shape if name in tensors else None
        if found != wanted:
            what = "missing" if found is None else "other shape"
            problems.append(
                Problem(
                    what=what, tensor=name, found=_text(found), variable=path, wanted=_text(wanted)
                )
            )
    return problems


def _problems_of_tensors(
    tensors: Mapping[str, Tensor], names: Mapping[str, str | None], ignored: Collection[str]
) -> list[Problem]:
    unused = sorted(set(tensors) - set(names.values()) - set(ignored))
    return [
        Problem(what="unexpected", tensor=name, found=_text(tensors[name].shape)) for name in unused
    ]


def _problems_of_types(
    model: keras.Model, tensors: Mapping[str, Tensor], names: Mapping[str, str | None]
) -> list[Problem]:
    """List the tensors whose type differs from others in the same role: a sign of damage."""
    types = {name: tensors[name].dtype for name in names.values() if name and name in tensors}
    common = _common_types({path: types[name] for path, name in names.items() if name in types})
    variables = {variable.path: variable.dtype for variable in model.weights}
    problems = []
    for path, name in names.items():
        wanted = common[_role(path)] if variables[path] in FLOATS else variables[path]
        if name in types and types[name] != wanted:
            problems.append(
                Problem(
                    what="other type", tensor=name, found=types[name], variable=path, wanted=wanted
                )
            )
    return problems


def _role(path: str) -> str:
    """Return the role of a variable, within which a file has one type.

    Training in half precision leaves some roles in full precision.
    """
    if _is_in_classifier(path):
        return "classifier"
    kinds = {"gamma": "scale", "beta": "scale", "moving_mean": "statistics"}
    kinds["moving_variance"] = "statistics"
    return kinds.get(path.rpartition("/")[2], "layer")


def _common_types(types: Mapping[str, str]) -> Mapping[str, str]:
    """Return the expected floating-point type of each role, from the types of all variables."""
    floats = {path: dtype for path, dtype in types.items() if dtype in FLOATS}
    ranked = [dtype for dtype, _ in Counter(floats.values()).most_common()] or ["float32"]
    common = defaultdict(lambda: ranked[0])
    for role in set(map(_role, floats)):
        counts = Counter(dtype for path, dtype in floats.items() if _role(path) == role)
        common[role] = max(counts, key=lambda dtype: (counts[dtype], -ranked.index(dtype)))
    # No training leaves float16 and bfloat16 in one file, and one read as the other is wrong.
    half = next((dtype for dtype in ranked if dtype in HALVES), None)
    common.update({role: half for role, dtype in common.items() if half and dtype in HALVES})
    return common


# --- messages ------------------------------------------------------------------------------------


def _text(shape: Shape | None) -> str | None:
    return None if shape is None else "x".join(map(str, shape)) or "scalar"


def _complaint(
    model: keras.Model,
    checkpoint: Checkpoint,
    key_map: FileNames,
    problems: list[Problem],
    different: list[tuple[str, str, str]],
) -> str:
    name, _ = split_name(model.name)
    head = f"{checkpoint.source} ({key_map.name}) does not fit {name}; nothing was loaded."
    hint = _hint(model, checkpoint, key_map, problems, different)
    if kernel_to_adapt(key_map, model, _shapes_of_tensors(checkpoint)) is not None:
        hint.append(
            "The file is for images of three colors; `adapt_input=True` adapts its first kernel."
        )
    tables = []
    if different:
        tables.append(format_table(("network", "in the file", "in the model"), different))
    if problems:
        rows = [(p.what, p.tensor, p.found, p.variable, p.wanted) for p in problems]
        tables.append(format_table(("problem", "tensor", "found", "variable", "wanted"), rows))
    return "\n".join([" ".join([head, *hint]), *tables])


def _hint(
    model: keras.Model,
    checkpoint: Checkpoint,
    key_map: FileNames,
    problems: list[Problem],
    different: list[tuple[str, str, str]],
) -> list[str]:
    """Return sentences that suggest what would fit."""
    theirs, ours = shapes_as_ours(checkpoint, key_map), _shapes(model)
    if different or signature_of_shapes(theirs) != signature_of_shapes(ours):
        hints = _hint_of_network(checkpoint, key_map)
        if hints:
            return hints
    return (
        _hint_of_classes(_classes(theirs), _classes(ours))
        or _hint_of_classifier(problems)
        or _hint_of_prefix(checkpoint, key_map, problems)
    )


def _hint_of_network(checkpoint: Checkpoint, key_map: FileNames) -> list[str]:
    fit = _builders_that_fit(checkpoint, key_map)
    hints = [f"The file fits {' or '.join(fit)}."] if fit else []
    if checkpoint.stranger:
        hints.append(f"According to its source, {checkpoint.stranger}")
    elif checkpoint.architecture:
        hints.append(f"According to its source, it is for {checkpoint.architecture!r}.")
    return hints


def _hint_of_classes(theirs: int | None, ours: int | None) -> list[str]:
    if None in (theirs, ours) or theirs == ours:
        return []
    return [
        f"The file has {theirs} classes: build with `classes={theirs}`, or pass "
        "`fresh_classifier=True` to ignore its classifier."
    ]


def _hint_of_classifier(problems: list[Problem]) -> list[str]:
    if any(p.what == "missing" and _is_in_classifier(p.variable) for p in problems):
        return [
            "The file has no classifier of one layer: `fresh_classifier=True` keeps the model's "
            "classifier, and `include_top=False` builds a model without one."
        ]
    return []


def _hint_of_prefix(
    checkpoint: Checkpoint, key_map: FileNames, problems: list[Problem]
) -> list[str]:
    """Say how to read only the network, if everything else in the file is the problem."""
    prefix, head = key_map.prefix, key_map.head or key_map.prefix
    beside = [p.what == "unexpected" and not (p.tensor or "").startswith(prefix) for p in problems]
    if not (beside and all(beside) and head.startswith(prefix)):
        return []
    place = checkpoint.source.partition("::")[0]
    return [f"'{place}::{prefix.removesuffix('.')}' reads only the network."]


def _classes(shapes: Mapping[str, Shape]) -> int | None:
    bias = shapes.get(f"{CLASSIFIER}/bias")
    return bias[0] if bias else None


def shapes_as_ours(checkpoint: Checkpoint, key_map: KeyMap | None) -> dict[str, Shape]:
    """Return the path and shape of the variable for each tensor of the file."""
    shapes: dict[str, Shape] = {}
    if key_map is None:
        return shapes
    for name, tensor in checkpoint.tensors.items():
        path = key_map.ours(name)
        if path is None:
            continue
        layout = key_map.layout(path, len(tensor.shape))
        if len(tensor.shape) == layout.source_rank:
            shapes[path] = layout.target_shape(tensor.shape)
    return shapes

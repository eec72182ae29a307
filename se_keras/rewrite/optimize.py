"""`optimize`: the table of rules, and the pass that applies them to a copy of a model."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import keras

from se_keras.graph import Graph, Node, trace
from se_keras.rewrite.factors import fold_factor
from se_keras.rewrite.folding import drop_inert, fold_normalization, write_padding, write_pool
from se_keras.rewrite.gates import (
    fold_constant_gate,
    fold_gate_scale,
    keep_dimensions,
    point_before_pointwise,
    squeeze_before_pointwise,
)
from se_keras.rewrite.lowering import lower_gate
from se_keras.rewrite.scaling import LeftAlone
from se_keras.rewrite.vectors import write_dense, write_vector
from se_keras.support.arguments import boolean
from se_keras.support.tables import format_table


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rewrite.

    Attributes:
        name: name of the rule in the report.
        apply: the rule, as described in `se_keras.rewrite.folding`.
    """

    name: str
    apply: Callable[[Graph, Node], str | None]


# The order matters: a factor may go into a normalization, which is folded later; and a gate can
# only use the narrow map if no other layer is in between.
RULES = (
    Rule(name="inert layers", apply=drop_inert),
    Rule(name="channel padding", apply=write_padding),
    Rule(name="even pool", apply=write_pool),
    Rule(name="constant gate", apply=fold_constant_gate),
    Rule(name="constant factor", apply=fold_factor),
    Rule(name="batch normalization", apply=fold_normalization),
    Rule(name="squeeze-and-excitation", apply=lower_gate),
    Rule(name="reshaped pool", apply=keep_dimensions),
    Rule(name="global mean", apply=squeeze_before_pointwise),
    Rule(name="pointwise", apply=point_before_pointwise),
    Rule(name="gate scale", apply=fold_gate_scale),
)
OPENVINO_RULES = (*RULES, Rule(name="vector pool", apply=write_vector))
TENSORFLOW_RULES = (*RULES, Rule(name="single position", apply=write_dense))


@dataclass(frozen=True, kw_only=True)
class Step:
    """The outcome for one layer.

    Attributes:
        rule: name of the rule.
        layer: name of the layer; in a nested model `backbone/bn1`.
        done: whether the rule was applied.
        text: the change, or the reason why the layer was left alone.
    """

    rule: str
    layer: str
    done: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class OptimizationReport:
    """The result of `report_optimization`; prints as a table.

    Attributes:
        steps: one step for each layer that a rule is made for.
    """

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        if not self.steps:
            return "nothing to rewrite"
        alike = Counter((step.rule, step.done, step.text) for step in self.steps)
        examples = {(s.rule, s.done, s.text): s.layer for s in reversed(self.steps)}
        rows = [
            [rule, number, "" if done else "left alone", text, examples[rule, done, text]]
            for (rule, done, text), number in alike.items()
        ]
        return format_table(["rewrite of", "layers", "", "how, or why not", "first"], rows)


def report_optimization(model: keras.Model) -> OptimizationReport:
    """Report what `optimize` changes in a model, and what it leaves alone, without building it.

    Args:
        model: a functional or Sequential model; nested models are included.

    Raises:
        InputError: if the model is not functional.

    Example:

    >>> import keras
    >>> from se_keras.rewrite.optimize import report_optimization
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3),
    ...                           keras.layers.BatchNormalization(name="bn"), keras.layers.ReLU()])
    >>> print(report_optimization(model))
    rewrite of           layers    how, or why not                  first
    batch normalization       1    folded into the layer before it  bn
    """
    return rewrite(trace(model))


def rewrite(graph: Graph, rules: Sequence[Rule] = RULES) -> OptimizationReport:
    """Apply rules to a graph, in their order."""
    steps = [
        step
        for path, inner in graph.graphs()
        for rule in rules
        for step in _sweep(rule, path, inner)
    ]
    return OptimizationReport(steps=tuple(steps))


def _sweep(rule: Rule, path: str, graph: Graph) -> Iterator[Step]:
    for node in graph.nodes:  # the nodes before the sweep
        if node not in graph:
            continue
        try:
            done, text = True, rule.apply(graph, node)
        except LeftAlone as reason:
            done, text = False, str(reason)
        if text is not None:
            yield Step(rule=rule.name, layer=path + node.name, done=done, text=text)


def optimize(model: keras.Model, verbose: bool = True) -> keras.Model:
    """Rewrite a model for inference: equal outputs from fewer layers, all of them from Keras.

    Batch normalization is folded into the layers before it, dropout and noise layers are removed,
    `SqueezeExcite` and its kin are written as layers of Keras, and constant gates become weights.
    A gate is computed from the narrow map before the last 1x1 convolution if that is exact and
    cheaper (`se_keras.rewrite.gates`). Any functional model can be optimized, with or without SE.

    Args:
        model: a functional or Sequential model, which is not changed. Nested models, shared layers,
            and several inputs and outputs are kept. Masks from layers such as `Embedding` and
            `Masking` still work; a `mask=` in the call of the new model is ignored.
        verbose: whether to print the report of `report_optimization`.

    Returns:
        The new model, which is not meant for training. In float32 its outputs differ only by
        rounding. It loads without this package if `model` has no other custom layers.

    Raises:
        InputError: if the model is not functional, or its layers can't be recreated from their
            configs.

    Example:

    >>> import se_keras
    >>> model = se_keras.create("seresnet20")
    >>> fast = se_keras.optimize(model, verbose=False)
    >>> before, after = ({type(x).__name__ for x in m.layers} for m in (model, fast))
    >>> sorted(before - after)
    ['BatchNormalization', 'ChannelPadding', 'SqueezeExcite']
    """
    verbose = boolean("verbose", verbose)
    graph = trace(model)
    report = rewrite(graph)
    if verbose:
        print(report)
    return graph.build()

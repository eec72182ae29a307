"""`optimize`: the table of rules, and the pass that applies them to a copy of a model."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras

from se_keras.graph import Graph, Node, trace
from se_keras.rewrite.factors import fold_factor
from se_keras.rewrite.folding import drop_inert, fold_normalization, write_padding, write_pool
from se_keras.rewrite.gates import (
    fold_constant_gate,
    fold_gate_scale,
    keep_dimensions,
    lower_squeeze_excite,
    squeeze_before_pointwise,
)
from se_keras.rewrite.scaling import LeftAlone
from se_keras.support.arguments import boolean
from se_keras.support.tables import format_table


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rewrite.

    Attributes:
        name: as the report shows it.
        apply: see `se_keras.rewrite.folding`.
    """

    name: str
    apply: Callable[[Graph, Node], str | None]


# In this order: a factor goes into a normalization too, which is folded then; and a gate reads the
# narrow map only when nothing stands between them.
RULES = (
    Rule(name="inert layers", apply=drop_inert),
    Rule(name="channel padding", apply=write_padding),
    Rule(name="even pool", apply=write_pool),
    Rule(name="constant gate", apply=fold_constant_gate),
    Rule(name="constant factor", apply=fold_factor),
    Rule(name="batch normalization", apply=fold_normalization),
    Rule(name="squeeze-and-excitation", apply=lower_squeeze_excite),
    Rule(name="reshaped pool", apply=keep_dimensions),
    Rule(name="global mean", apply=squeeze_before_pointwise),
    Rule(name="gate scale", apply=fold_gate_scale),
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """The outcome for one layer.

    Attributes:
        rule: name of the rule.
        layer: name of the layer; in a nested model `backbone/bn1`.
        done: whether the rule was applied.
        text: what it did, or why it left the layer alone.
    """

    rule: str
    layer: str
    done: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class OptimizationReport:
    """The result of `report_optimization`; prints as a table of what is done and what is not.

    Attributes:
        steps: one for each layer that a rule is for.
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
    """Return what `optimize` does to a model, and what it leaves alone.

    It is no plan, since each rule works on what the rules before it made: all of them are applied
    to a graph of the model, of which no model is built.

    Args:
        model: a functional or Sequential model; nested models are walked.

    Raises:
        InputError: for a model that is not functional.

    Example:

    >>> import keras
    >>> from se_keras.rewrite.optimize import report_optimization
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3),
    ...                           keras.layers.BatchNormalization(name="bn"), keras.layers.ReLU()])
    >>> print(report_optimization(model))
    rewrite of           layers    how, or why not                  first
    batch normalization       1    folded into the layer before it  bn
    """
    return _rewrite(trace(model))


def _rewrite(graph: Graph) -> OptimizationReport:
    steps = [
        step
        for path, inner in graph.graphs()
        for rule in RULES
        for step in _sweep(rule, path, inner)
    ]
    return OptimizationReport(steps=tuple(steps))


def _sweep(rule: Rule, path: str, graph: Graph) -> Iterator[Step]:
    for node in graph.nodes:  # as they are before the sweep
        if node not in graph:
            continue
        try:
            done, text = True, rule.apply(graph, node)
        except LeftAlone as reason:
            done, text = False, str(reason)
        if text is not None:
            yield Step(rule=rule.name, layer=path + node.name, done=done, text=text)


def optimize(model: keras.Model, verbose: bool = True) -> keras.Model:
    """Return a model for inference with equal outputs, in layers and operations of Keras only.

    Batch normalization is folded into the layers before it; dropout and the like are taken out;
    `SqueezeExcite` becomes stock layers, and its gate is computed from the narrow map before the
    last 1x1 convolution where that is exact and cheaper (`se_keras.rewrite.gates`); constant gates
    become weights. Any functional model will do, with SE or without.

    Args:
        model: a functional or Sequential model; it stays as it is. Nested models, shared layers,
            several inputs and outputs are kept. Masks of `Embedding`, `Masking` and calls inside
            count as in `model`; `mask=` of a call of the whole new model has no such effect.
        verbose: prints the report: what was done, what was left alone and why.

    Returns:
        The new model, which is not meant to be trained. In float32 its outputs differ by rounding
        only. It loads without this package, if `model` has no layers of the user's own.

    Raises:
        InputError: for a model that is not functional, and for one that can't be made again from
            the configs of its layers.

    Example:

    >>> import se_keras
    >>> model = se_keras.create("seresnet20")
    >>> fast = se_keras.optimize(model, verbose=False)
    >>> before, after = ({type(x).__name__ for x in m.layers} for m in (model, fast))
    >>> sorted(before - after)
    ['BatchNormalization', 'ChannelPadding', 'SqueezeExcite']
    """
    boolean("verbose", verbose)
    graph = trace(model)
    report = _rewrite(graph)
    if verbose:
        print(report)
    return graph.build()

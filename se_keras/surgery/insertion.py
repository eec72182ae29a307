"""`insert_se` and `remove_se`: insert SE into a model, and remove it."""

import inspect
from collections.abc import Collection
from typing import Any

import keras

from se_keras.graph import Graph, trace
from se_keras.layers import ChannelGate
from se_keras.rewrite.squeeze_excite import find_gates
from se_keras.support.arguments import boolean, integers
from se_keras.support.errors import InputError
from se_keras.surgery.plan import InsertionPlan
from se_keras.surgery.rules import Where
from se_keras.surgery.sites import find_sites, refuse_other_options


def insert_se(
    model: keras.Model,
    where: Where | InsertionPlan = "auto",
    ratio: int | None = None,
    warm_start: bool = True,
    *,
    attention: str = "se",
    placement: str = "standard",
    stages: Collection[int] | None = None,
    skip_last_stage: bool = False,
    force: bool = False,
    **options: Any,
) -> keras.Model:
    """Insert squeeze-and-excitation, or one of its kin, into a copy of a model.

    The copy keeps weights, names, trainable flags, dtype policies, nesting and sharing; `model` is
    not changed. A new layer has the name of the layer before it, followed by `_se`, or by `_` and
    the value of `attention`. It is frozen if the whole model is frozen (`model.trainable = False`).

    Args:
        model: a functional or Sequential model.
        where, ratio, attention, placement, stages, skip_last_stage: as in `find_sites`. `where`
            may also be a plan from `find_sites` for this model or one with the same layers; the
            other arguments belong to the plan then, and can't be given again.
        warm_start: whether every gate starts at 1, so that the new model computes the same as
            `model`: the last inner layer, `expand` in SE, starts at zero, and `gate_scale`
            compensates for the activation (2 for a sigmoid). `False` uses the paper's
            initialization. `GatherExcite` needs `extra_params` or `use_mlp` for a warm start.
        force: whether to insert SE even at places that have it already.
        **options: further arguments of `SqueezeExcite`, or of the layer that `attention` names. A
            warm start sets `gate_scale` and the initial weights of the last inner layer.

    Returns:
        The new model; it is not compiled.

    Raises:
        InputError: as in `find_sites`; if a site has SE already and `force` is not given; or if the
            gate allows no warm start.
        TypeError: if the layer does not have an option.

    Example:

    >>> import keras, numpy as np
    >>> import se_keras
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(16, 3, name="conv"),
    ...                           keras.layers.ReLU(name="relu")])
    >>> new = se_keras.insert_se(model)
    >>> [layer.name for layer in new.layers]
    ['conv', 'relu', 'relu_se']
    >>> x = np.random.default_rng(0).random((1, 8, 8, 3), "float32")
    >>> bool(np.all(np.asarray(new(x)) == np.asarray(model(x))))
    True
    """
    planned = where.attention if isinstance(where, InsertionPlan) else attention
    refuse_other_options(insert_se, planned, ratio, options)
    skip_last_stage = boolean("skip_last_stage", skip_last_stage)
    if stages is not None:
        integers("stages", stages, "numbers of stages, as in [2, 3]")
    choice: dict[str, Any] = {
        "attention": attention,
        "placement": placement,
        "stages": stages,
        "skip_last_stage": skip_last_stage,
    }
    if isinstance(where, InsertionPlan):
        plan = where
        _refuse_choices(plan, {"ratio": ratio, **choice, **options})
    else:
        plan = find_sites(model, where, ratio, **choice, **options)
    return plan.apply(model, warm_start, force=force)


def remove_se(model: keras.Model) -> keras.Model:
    """Return a copy of a model without its layers of SE and its kin.

    SE in layers of Keras stays.

    Args:
        model: a functional or Sequential model.

    Raises:
        InputError: if the model is not functional, or has no such layer.

    Example:

    >>> import se_keras
    >>> model = se_keras.create("seresnet20")
    >>> twin = se_keras.create("seresnet20", se=False)
    >>> se_keras.remove_se(model).count_params() == twin.count_params()
    True
    """
    graph = trace(model)
    found = list(graph.calls(ChannelGate))
    if not found:
        raise InputError(
            f"`model`: {model.name!r} has no SqueezeExcite layer to remove, and none of "
            f"its kin{_other_gates(graph)}."
        )
    for _, inner, node in found:
        inner.redirect(node.output, node.inputs[0])
    return graph.build()


def _other_gates(graph: Graph) -> str:
    first, *more = find_gates(graph) or [""]
    more_of_them = f" and {len(more)} more" if more else ""
    return first and f"; its SE is in layers of Keras: {first!r}{more_of_them}"


def _refuse_choices(plan: InsertionPlan, choice: dict[str, Any]) -> None:
    """Refuse arguments that the plan has decided already, unless they are the same."""
    parameters = inspect.signature(insert_se).parameters
    same = {"ratio": plan.ratio, "attention": plan.attention}
    usual = {name: parameter.default for name, parameter in parameters.items()}
    given = [
        name
        for name, value in choice.items()
        if name not in usual or value not in (usual[name], same.get(name, usual[name]))
    ]
    if given:
        raise InputError(
            f"`{given[0]}` is part of the plan: give it to `find_sites`, not to `insert_se`."
        )

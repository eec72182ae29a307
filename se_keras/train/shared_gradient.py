"""The gradient of several processes of JAX, in few messages.

Left to itself, XLA sends a message for each weight and several for each batch normalization, where
each of them waits for the one before. Here each process computes the gradient of its own images,
and sends all of it at once; a batch normalization takes one message forward and one backward.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
from keras import ops

from se_keras.graph import innermost_layers

# Whose layers compute each image apart from the others, but for batch normalization and these.
KNOWN = ("keras", "se_keras")
ARBITRARY = (keras.layers.Lambda, keras.layers.Wrapper, keras.layers.JaxLayer)
# What a layer has that draws random numbers, or has a batch normalization inside.
TELLING = {"seed_generator_state", "moving_mean"}


def share_gradient(model: keras.Model, parallel: keras.distribution.DataParallel) -> None:
    """Let a model compute its gradient in few messages, where that is known to change nothing.

    It then is what it is without, but for rounding. Networks with layers that draw numbers, or that
    are neither of Keras nor of this package, stay as they are.

    Args:
        model: compiled or not; is changed in place.
        parallel: how the images are distributed.
    """
    if takes_images_apart(model):
        whole = model.compute_loss_and_updates
        model.compute_loss_and_updates = partial(_loss_and_updates, model, whole, parallel)


def takes_images_apart(op: keras.Operation) -> bool:
    """Return whether it is known that images depend on each other in batch normalization only.

    Example:

    >>> import keras
    >>> from se_keras.train.shared_gradient import takes_images_apart
    >>> takes_images_apart(keras.layers.BatchNormalization())
    True
    >>> takes_images_apart(keras.layers.Lambda(lambda x: x))
    False
    """
    if not isinstance(op, keras.Layer) or type(op).__module__.split(".")[0] not in KNOWN:
        return False
    if isinstance(op, keras.Model):
        return all(map(takes_images_apart, getattr(op, "operations", op.layers)))
    if type(op) is keras.layers.BatchNormalization:
        return not op.renorm
    return not isinstance(op, ARBITRARY) and TELLING.isdisjoint(v.name for v in op.variables)


def _loss_and_updates(
    model: keras.Model,
    whole: Callable[..., tuple],
    parallel: keras.distribution.DataParallel,
    weights: list[Any],
    *state: Any,
    training: bool = False,
    optimizer_variables: Any = None,
) -> tuple[Any, tuple]:
    """Do what `compute_loss_and_updates` of a model does, and the gradient with it.

    Args:
        model: the model.
        whole: its own `compute_loss_and_updates`.
        parallel: how the images are distributed.
        weights: those that are trained.
        state: the other weights, those of the metrics, images, labels, and weights of images.
        training: as Keras gives it.
        optimizer_variables: as Keras gives them.
    """
    if not training:
        return whole(weights, *state, training=False, optimizer_variables=optimizer_variables)
    import jax
    from jax.flatten_util import ravel_pytree
    from jax.sharding import PartitionSpec

    everywhere, parted = PartitionSpec(), PartitionSpec(parallel.batch_dim_name)

    @partial(
        jax.shard_map,
        mesh=parallel.device_mesh.backend_mesh,
        in_specs=(everywhere, everywhere, everywhere, parted, parted, parted, everywhere),
        out_specs=((everywhere, (everywhere, parted, everywhere, everywhere)), everywhere),
        check_vma=False,  # JAX can't know that the shared statistics are the same everywhere
    )
    def of_own_images(weights: Any, *state: Any) -> Any:
        *others, optimizer_state = state
        gradient = jax.value_and_grad(
            partial(whole, training=True, optimizer_variables=optimizer_state), has_aux=True
        )
        with _shared_statistics(model, parallel.batch_dim_name):
            (loss, (plain, *results)), slopes = gradient(weights, *others)
        flat, restore = ravel_pytree((loss, plain, slopes))
        loss, plain, slopes = restore(jax.lax.pmean(flat, parallel.batch_dim_name))
        return (loss, (plain, *results)), slopes

    @jax.custom_vjp
    def compute(weights: list[Any]) -> tuple[Any, tuple]:
        return forward(weights)[0]

    def forward(weights: list[Any]) -> Any:
        return of_own_images(weights, *state, optimizer_variables)

    def backward(slopes: list[Any], upstream: Any) -> tuple[list[Any]]:
        return ([upstream[0] * slope for slope in slopes],)

    compute.defvjp(forward, backward)
    return compute(weights)


@contextmanager
def _shared_statistics(model: keras.Model, axis: str) -> Iterator[None]:
    """Let batch normalization take the statistics of the images of all devices."""
    layers = [
        layer
        for layer in innermost_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    for layer in layers:
        layer.call = partial(_normalize, layer, axis)
    try:
        yield
    finally:
        for layer in layers:
            del layer.call


def _normalize(
    layer: keras.layers.BatchNormalization,
    axis: str,
    inputs: Any,
    training: bool | None = None,
    mask: None = None,
) -> Any:
    """Call a batch normalization, with the statistics of the images of all devices."""
    import jax

    if not (training and layer.trainable):
        return type(layer).call(layer, inputs, training=training, mask=mask)
    inputs = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
    others = [dim for dim in range(inputs.ndim) if dim != layer.axis % inputs.ndim]
    # (devices, mean and variance, channels)
    parts = jax.lax.all_gather(ops.stack(ops.moments(inputs, others)), axis)
    mean = ops.mean(parts[:, 0], axis=0)
    # Squared distances of the means, not means of squares, where little would be left of them.
    variance = ops.mean(parts[:, 1] + ops.square(parts[:, 0] - mean), axis=0)
    for kept, new in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        kept.assign(kept * layer.momentum + new * (1 - layer.momentum))
    outputs = ops.batch_normalization(
        inputs, mean, variance, layer.axis, layer.beta, layer.gamma, layer.epsilon
    )
    return ops.cast(outputs, layer.compute_dtype)

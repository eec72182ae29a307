"""Compute the gradient of several JAX processes with few messages between them.

By default, XLA sends one message for each weight and several for each batch normalization, one
after the other. Here each process computes the gradient of its own images and sends it as one
message. A batch normalization needs one message forward and one backward.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
from keras import ops

from se_keras.graph import innermost_layers

# In layers of these packages, an image does not depend on the other images of its batch, except in
# batch normalization and in the layers of ARBITRARY.
KNOWN = ("keras", "se_keras")
ARBITRARY = (keras.layers.Lambda, keras.layers.Wrapper, keras.layers.JaxLayer)
# Variables of layers that draw random numbers, or that contain a batch normalization.
TELLING = {"seed_generator_state", "moving_mean"}


def share_gradient(model: keras.Model, parallel: keras.distribution.DataParallel) -> None:
    """Let a model compute its gradient with few messages, if this only changes the rounding.

    A network stays as it is if one of its layers draws random numbers, or comes neither from Keras
    nor from this package.

    Args:
        model: a model, compiled or not; it is changed in place.
        parallel: the distribution of the images.
    """
    if takes_images_apart(model):
        whole = model.compute_loss_and_updates
        model.compute_loss_and_updates = partial(_loss_and_updates, model, whole, parallel)


def takes_images_apart(op: keras.Operation) -> bool:
    """Return whether the images of a batch surely affect each other in normalizations only.

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
    """Compute the loss and the updates of a model as Keras does, and also the gradient.

    Args:
        model: the model.
        whole: the method `compute_loss_and_updates` of the model.
        parallel: the distribution of the images.
        weights: the trainable weights.
        state: the other weights, the weights of the metrics, images, labels, and image weights.
        training: as in Keras' method.
        optimizer_variables: as in Keras' method.
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
    """Let batch normalization use the statistics of the images on all devices."""
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
    """Call a batch normalization with the statistics of the images on all devices."""
    import jax

    if not (training and layer.trainable):
        return type(layer).call(layer, inputs, training=training, mask=mask)
    inputs = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
    others = [dim for dim in range(inputs.ndim) if dim != layer.axis % inputs.ndim]
    own_part = ops.one_hot(jax.lax.axis_index(axis), jax.lax.axis_size(axis))[:, None, None]
    # (devices, mean and variance, channels). A sum, because the gradient of `all_gather` is a
    # reduce-scatter: for it, gloo (`Pair::send` of its TCP transport) limits the send buffer of the
    # socket to the size of the message, and every longer message then waits 40 ms, again and again,
    # until a part of it is acknowledged.
    parts = jax.lax.psum(own_part * ops.stack(ops.moments(inputs, others)), axis)
    mean = ops.mean(parts[:, 0], axis=0)
    # Squared differences of the means: means of squares would lose most digits in a subtraction.
    variance = ops.mean(parts[:, 1] + ops.square(parts[:, 0] - mean), axis=0)
    for kept, new in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        kept.assign(kept * layer.momentum + new * (1 - layer.momentum))
    outputs = ops.batch_normalization(
        inputs, mean, variance, layer.axis, layer.beta, layer.gamma, layer.epsilon
    )
    return ops.cast(outputs, layer.compute_dtype)

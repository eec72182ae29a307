"""Run the training step or the inference of one network on the device of its backend.

python -m benchmarks.device_side device MAKER    names the device, the backend and its version
python -m benchmarks.device_side run WORK        takes turns, like worker.py

Each call is a process of its own. MAKER is `jax`, `torch` (this package on that backend of Keras)
or `timm`. WORK is a `Work` of `device_step.py` as JSON. A turn ends when the device has finished.
Images and labels are on the device before the first turn. TensorFlow and a network connection are
not needed.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.peer_side import import_timm
from benchmarks.worker import claim_output, noise, serve_turns

RATE, MOMENTUM = 0.01, 0.9
Run = Callable[[], object]


def device(maker: str) -> str:
    """Return the name of the device, and the version of the library that computes on it."""
    if maker == "jax":
        import jax

        (first, *_) = jax.devices()
        return f"{first.device_kind}, jax {jax.__version__}"
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return f"{name}, torch {torch.__version__}"


# --- Keras ---------------------------------------------------------------------------------------


def keras_run(given: dict[str, Any]) -> Run:
    import keras

    import se_keras

    keras.config.set_image_data_format(given["data_format"])
    images = noise((given["batch"], given["size"], given["size"], 3), "float32")
    if given["data_format"] == "channels_first":
        images = images.transpose(0, 3, 1, 2)
    policy = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[given["precision"]]
    model = se_keras.create(
        given["network"],
        se=given["se"],
        input_shape=images.shape[1:],
        classifier_activation=None,
        dtype=policy,
    )
    x = keras.ops.convert_to_tensor(images)
    y = keras.ops.arange(given["batch"])
    make = {
        ("jax", "training"): jax_training,
        ("jax", "inference"): jax_inference,
        ("torch", "training"): torch_training,
        ("torch", "inference"): torch_inference,
    }[given["maker"], given["work"]]
    return make(model, x, y, given["compiled"])


def jax_training(model: Any, x: Any, y: Any, compiled: bool) -> Run:
    """Return a step as Keras' guide to training loops in JAX writes it."""
    import jax
    import keras

    optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM)
    optimizer.build(model.trainable_variables)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def loss(trainable: Any, rest: Any, x: Any, y: Any) -> tuple[Any, Any]:
        logits, rest = model.stateless_call(trainable, rest, x, training=True)
        return cross_entropy(y, logits), rest

    @partial(jax.jit, donate_argnums=0)
    def step(state: Any, x: Any, y: Any) -> tuple[Any, Any]:
        trainable, rest, own = state
        (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(trainable, rest, x, y)
        trainable, own = optimizer.stateless_apply(own, gradients, trainable)
        return (trainable, rest, own), value

    parts = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    state: Any = [[variable.value for variable in part] for part in parts]

    def run() -> None:
        nonlocal state
        state, value = step(state, x, y)
        jax.block_until_ready((state, value))

    return run


def jax_inference(model: Any, x: Any, y: Any, compiled: bool) -> Run:
    import jax

    parts = (model.trainable_variables, model.non_trainable_variables)
    state = [[variable.value for variable in part] for part in parts]
    predict = jax.jit(lambda state, x: model.stateless_call(*state, x, training=False)[0])
    return lambda: jax.block_until_ready(predict(state, x))


def torch_training(model: Any, x: Any, y: Any, compiled: bool) -> Run:
    import keras

    model.compile(
        keras.optimizers.SGD(RATE, momentum=MOMENTUM),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=compiled,
    )
    return lambda: model.train_on_batch(x, y)  # returns a number, so it waits for the device


def torch_inference(model: Any, x: Any, y: Any, compiled: bool) -> Run:
    import torch

    call = partial(model, training=False)
    predict = torch.compile(call) if compiled else call
    return _waiting(torch.inference_mode()(lambda: predict(x)))


# --- timm ----------------------------------------------------------------------------------------


def timm_run(given: dict[str, Any]) -> Run:
    import torch

    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = given["network"] if given["se"] else given["network"].removeprefix("se")
    model: Any = import_timm().create_model(name)
    model.to(place, memory_format=torch.channels_last)
    x = noise((given["batch"], given["size"], given["size"], 3), "float32").transpose(0, 3, 1, 2)
    images = torch.from_numpy(x).to(place, memory_format=torch.channels_last)
    labels = torch.arange(given["batch"], device=place)
    mixed = partial(
        torch.autocast, place.type, torch.bfloat16, enabled=given["precision"] == "bfloat16"
    )
    forward = torch.compile(model) if given["compiled"] else model
    if given["work"] == "inference":
        model.eval()

        @torch.inference_mode()
        def predict() -> None:
            with mixed():
                forward(images)

        return _waiting(predict)
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM)

    def step() -> None:
        optimizer.zero_grad()
        with mixed():
            loss = torch.nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()

    return _waiting(step)


def _waiting(call: Run) -> Run:
    import torch

    def run() -> None:
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run


def main() -> None:
    answers = claim_output()
    task, text = sys.argv[1:]
    if task == "device":
        answers.write(device(text))
        return
    given = json.loads(text)
    os.environ["KERAS_BACKEND"] = given["maker"]  # timm's process ignores it
    run = timm_run(given) if given["maker"] == "timm" else keras_run(given)
    serve_turns(lambda _: run(), [], "wall", answers)


if __name__ == "__main__":
    main()

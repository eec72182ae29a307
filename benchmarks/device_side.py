"""Run training steps and inference of one network on the device of its backend.

python -m benchmarks.device_side device MAKER    names the device, the backend and its version
python -m benchmarks.device_side run NETWORK     answers turns

Each call is a process of its own. MAKER is `jax`, `torch` (this package on that backend of Keras)
or `timm`. NETWORK is JSON: a `Network` of `device_step.py`, and `se` and `works`. The process
answers turns. A turn is a line of two numbers: the place of a work in `works`, and how often to run
it. It ends when the device has finished. Before the first turn of a work, its images and labels are
put on the device, and it is compiled: only then, because XLA measures programs on the device and
chooses the fastest, so nothing else may run there. TensorFlow and a network connection are not
needed.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, TextIO

import numpy as np

from benchmarks.peer_side import import_timm
from benchmarks.worker import claim_output, noise, seconds_of

RATE, MOMENTUM = 0.01, 0.9
RUNS_BEFORE = 2
Run = Callable[[], object]
# Puts on the device what a work needs, and returns the function that runs it.
Start = Callable[[], Run]


def device(maker: str) -> str:
    """Return the name of the device, and the version of the library that computes on it."""
    if maker == "jax":
        import jax

        (first, *_) = jax.devices()
        return f"{first.device_kind}, jax {jax.__version__}"
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return f"{name}, torch {torch.__version__}"


def images_of(batch: int, size: int, channels_first: bool) -> np.ndarray:
    x = noise((batch, size, size, 3), "float32")
    return x.transpose(0, 3, 1, 2) if channels_first else x


# --- Keras ---------------------------------------------------------------------------------------


def keras_starts(given: dict[str, Any]) -> list[Start]:
    import keras

    import se_keras

    keras.config.set_image_data_format(given["data_format"])
    first = given["data_format"] == "channels_first"
    policies = {"float32": "float32", "bfloat16": "mixed_bfloat16"}

    @cache
    def built(precision: str) -> Any:
        return se_keras.create(
            given["network"],
            se=given["se"],
            input_shape=images_of(1, given["size"], first).shape[1:],
            classifier_activation=None,
            dtype=policies[precision],
        )

    @cache
    def optimized(precision: str) -> Any:
        return se_keras.optimize(built(precision), verbose=False)

    prepare = {
        ("jax", True): jax_training,
        ("jax", False): jax_inference,
        ("torch", True): torch_training,
        ("torch", False): torch_inference,
    }

    def start(work: str, precision: str, batch: int) -> Run:
        model = (optimized if work == "optimized" else built)(precision)
        x = keras.ops.convert_to_tensor(images_of(batch, given["size"], first))
        y = keras.ops.arange(batch, dtype="int32")
        return prepare[given["maker"], work == "training"](model, x, y, given["compiled"])

    return [partial(start, *work) for work in given["works"]]


def jax_training(model: Any, x: Any, y: Any, compiled: bool) -> Run:
    """Prepare a step as Keras' guide to training loops in JAX writes it."""
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
        return [list(part) for part in (trainable, rest, own)], value

    variables = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    # A step takes the memory of its arguments, and another work needs the variables again.
    held = jax.tree.map(jax.numpy.copy, _values(*variables))

    def run() -> None:
        nonlocal held
        held, value = step(held, x, y)
        jax.block_until_ready((held, value))

    return run


def jax_inference(model: Any, x: Any, y: Any, compiled: bool) -> Run:
    import jax

    state = _values(model.trainable_variables, model.non_trainable_variables)
    predict = jax.jit(lambda state, x: model.stateless_call(*state, x, training=False)[0])
    return lambda: jax.block_until_ready(predict(state, x))


def _values(*parts: Sequence[Any]) -> list[list[Any]]:
    return [[variable.value for variable in part] for part in parts]


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


def timm_starts(given: dict[str, Any]) -> list[Start]:
    import torch

    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = given["network"] if given["se"] else given["network"].removeprefix("se")
    model: Any = import_timm().create_model(name)
    model.to(place, memory_format=torch.channels_last)
    forward = torch.compile(model) if given["compiled"] else model

    def start(work: str, precision: str, batch: int) -> Run:
        x = torch.from_numpy(images_of(batch, given["size"], channels_first=True))
        x = x.to(place, memory_format=torch.channels_last)
        mixed = partial(torch.autocast, place.type, torch.bfloat16, enabled=precision == "bfloat16")
        model.train(work == "training")
        make = timm_training if model.training else timm_inference
        return _waiting(make(model, forward, x, mixed))

    return [partial(start, *work) for work in given["works"]]


def timm_training(model: Any, forward: Any, x: Any, mixed: Any) -> Run:
    import torch

    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM)
    y = torch.arange(len(x), device=x.device)

    def step() -> None:
        optimizer.zero_grad()
        with mixed():
            loss = torch.nn.functional.cross_entropy(forward(x), y)
        loss.backward()
        optimizer.step()

    return step


def timm_inference(model: Any, forward: Any, x: Any, mixed: Any) -> Run:
    import torch

    @torch.inference_mode()
    def predict() -> None:
        with mixed():
            forward(x)

    return predict


def _waiting(call: Run) -> Run:
    import torch

    def run() -> None:
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run


# --- turns ---------------------------------------------------------------------------------------


def serve(starts: Sequence[Start], answers: TextIO) -> None:
    """Answer turns until standard input ends; the answer to a work that fails is its error.

    Runs before the first turn of a work do not count: they compile.
    """
    answers.write("ready\n")
    current, run = None, None
    for line in sys.stdin:
        number, calls = map(int, line.split())
        try:
            if number != current:
                run = None  # free its memory first
                current, run = number, starts[number]()
                seconds_of(run, RUNS_BEFORE, "wall")
            answer: dict[str, Any] = {"seconds": seconds_of(run, calls, "wall")}
        except Exception as error:
            current, run = None, None
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        answers.write(json.dumps(answer) + "\n")


def main() -> None:
    answers = claim_output()
    task, text = sys.argv[1:]
    if task == "device":
        answers.write(device(text))
        return
    given = json.loads(text)
    os.environ["KERAS_BACKEND"] = given["maker"]  # timm's process ignores it
    serve(timm_starts(given) if given["maker"] == "timm" else keras_starts(given), answers)


if __name__ == "__main__":
    main()

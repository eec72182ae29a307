"""Run training steps and inference of one network on the device of its backend.

python -m benchmarks.device_side device MAKER    names the device, the backend and its version
python -m benchmarks.device_side run NETWORK     answers turns

Each call is a process of its own. MAKER is `jax`, `torch` (this package on that backend of Keras)
or `timm`. NETWORK is JSON: a `Network` of `device_step.py`, and `se` and `works`. The process
builds the network and compiles all works before it is ready. A turn is a line of two numbers: the
place of a work in `works`, and how often to run it. It ends when the device has finished. Images
and labels are on the device before the first run of a work. TensorFlow and a network connection
are not needed.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, TextIO

import numpy as np

from benchmarks.peer_side import import_timm
from benchmarks.worker import claim_output, noise, seconds_of

RATE, MOMENTUM = 0.01, 0.9
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
    starts = []
    for work, precision, batch in given["works"]:
        model = (optimized if work == "optimized" else built)(precision)
        images = partial(images_of, batch, given["size"], first)
        starts.append(prepare[given["maker"], work == "training"](model, images, given["compiled"]))
    return starts


COMPILERS = ThreadPoolExecutor(8)


def jax_training(model: Any, images: Callable[[], np.ndarray], compiled: bool) -> Start:
    """Compile a step as Keras' guide to training loops in JAX writes it."""
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

    state = _values(model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    ready = _compiling(step, state, images())

    def start() -> Run:
        x, y = _on_device(images())
        held = jax.tree.map(jax.numpy.copy, state)  # a step takes the memory of its arguments

        def run() -> None:
            nonlocal held
            held, value = ready.result()(held, x, y)
            jax.block_until_ready((held, value))

        return run

    return start


def jax_inference(model: Any, images: Callable[[], np.ndarray], compiled: bool) -> Start:
    import jax

    state = _values(model.trainable_variables, model.non_trainable_variables)
    predict = jax.jit(lambda state, x, y: model.stateless_call(*state, x, training=False)[0])
    ready = _compiling(predict, state, images())

    def start() -> Run:
        x, y = _on_device(images())
        return lambda: jax.block_until_ready(ready.result()(state, x, y))

    return start


def _values(*parts: Sequence[Any]) -> list[list[Any]]:
    return [[variable.value for variable in part] for part in parts]


def _compiling(function: Any, state: Any, images: np.ndarray) -> Any:
    """Trace a function, and return a future with it: XLA compiles several at the same time."""
    import jax

    lowered = function.lower(state, *jax.eval_shape(partial(_on_device, images)))
    return COMPILERS.submit(lowered.compile)


def _on_device(images: np.ndarray) -> tuple[Any, Any]:
    import jax.numpy as jnp

    return jnp.asarray(images), jnp.arange(len(images), dtype="int32")


def torch_training(model: Any, images: Callable[[], np.ndarray], compiled: bool) -> Start:
    import keras

    def start() -> Run:
        model.compile(
            keras.optimizers.SGD(RATE, momentum=MOMENTUM),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=compiled,
        )
        x = keras.ops.convert_to_tensor(images())
        y = keras.ops.arange(len(x))
        return lambda: model.train_on_batch(x, y)  # returns a number, so it waits for the device

    return start


def torch_inference(model: Any, images: Callable[[], np.ndarray], compiled: bool) -> Start:
    import keras
    import torch

    call = partial(model, training=False)
    predict = torch.compile(call) if compiled else call

    def start() -> Run:
        x = keras.ops.convert_to_tensor(images())
        return _waiting(torch.inference_mode()(lambda: predict(x)))

    return start


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
    """Answer turns until standard input ends; the answer to a work that fails is its error."""
    answers.write("ready\n")
    current, run = None, None
    for line in sys.stdin:
        number, calls = map(int, line.split())
        try:
            if number != current:
                run = None  # free its memory first
                current, run = number, starts[number]()
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
    starts = timm_starts(given) if given["maker"] == "timm" else keras_starts(given)
    COMPILERS.shutdown()  # waits
    if given["compiled"]:  # PyTorch compiles what it runs
        for start in starts:
            start()()
    serve(starts, answers)


if __name__ == "__main__":
    main()

"""Training in parts, on several devices and in processes gives the same result as on one device."""

import dataclasses
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from checks import TESTS
from PIL import Image
from sklearn.metrics import balanced_accuracy_score
from test_train import (
    assert_same_run,
    config,
    plain,
    rows,
    small_classifier,
    stop_once,
    without_time,
)

import se_keras
from se_keras.support.errors import MissingExtraError
from se_keras.train import (
    Cluster,
    InputError,
    TrainConfig,
    choosing,
    cluster,
    data,
    input_clock,
    run,
    splits,
    train,
)
from se_keras.train.shared_gradient import takes_images_apart

SLOW = pytest.mark.slow
DEADLINE = 600  # seconds, for a machine with much else to do


def no_chance(*, input_tensor, classes, dtype, norm=False):
    """A network to train: SE without dropout, with or without normalization."""
    x = keras.layers.Conv2D(8, 3, padding="same", dtype=dtype)(input_tensor)
    if norm:
        x = keras.layers.BatchNormalization(momentum=0.9, dtype=dtype)(x)
    x = se_keras.se_block(keras.layers.ReLU(dtype=dtype)(x), 2, dtype=dtype)
    x = keras.layers.GlobalAveragePooling2D(dtype=dtype)(x)
    x = keras.layers.Dense(classes, activation="softmax", dtype="float32")(x)
    return keras.Model(keras.utils.get_source_inputs(x)[0], x)


def with_norm(**options):
    return no_chance(norm=True, **options)


NETWORKS = {"dropout": small_classifier, "no_chance": no_chance, "with_norm": with_norm}


build = functools.partial(run.build_model, network=no_chance)


def digits(**settings):
    """Complete settings and a few unchanged images of digits."""
    settings = config(**{"batch_size": 16, "weight_decay": 0.0, **settings}).completed()
    found = plain(data.open_data(settings))
    few = {
        name: part.part(np.arange(64 if name == "train" else 20))
        for name, part in found.parts.items()
    }
    return settings, dataclasses.replace(found, **few)


def trained(tmp_path, **settings):
    """Weights after a short training."""
    settings, found = digits(**settings)
    keras.utils.set_random_seed(0)
    model = build(settings, found)
    tmp_path.mkdir(exist_ok=True)
    history = run.fit(model, settings, found, tmp_path)
    return model.get_weights(), history


def assert_near(some, others, atol):
    for a, b in zip(some, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": 0}, "`devices` must be a positive integer, got 0"),
        (
            {"coordinator": "host:1"},
            "`coordinator`, `process` and `processes` must be given together",
        ),
        ({"process": 0, "processes": 2}, "must be given together"),
        ({"coordinator": "host", "process": 0, "processes": 2}, "HOST:PORT, got 'host'"),
        ({"coordinator": "host:x", "process": 0, "processes": 2}, "HOST:PORT, got 'host:x'"),
        ({"coordinator": "host:1", "process": 2, "processes": 2}, "from 0 to 1, got 2"),
        ({"coordinator": "host:1", "process": -1, "processes": 2}, "from 0 to 1, got -1"),
    ],
)
def test_a_cluster_out_of_range_is_named(settings, message):
    with pytest.raises(InputError, match=message):
        Cluster(**settings)


def test_what_the_devices_cannot_have_is_refused(tmp_path):
    # TensorFlow at work can't part its CPU any more.
    assert tf.config.list_logical_devices("CPU")
    for wanted, settings, message in (
        (Cluster(coordinator="localhost:1", process=0, processes=2), {}, "set KERAS_BACKEND=jax"),
        (Cluster(devices=100), {}, "`devices` must be at most .* got 100"),
        (Cluster(), {"accumulate": 3}, r"multiple of 3 \(devices: 1, parts: 3\), got 64"),
    ):
        with pytest.raises(InputError, match=message):
            train(config(**settings), tmp_path / "run", cluster=wanted)
    assert not (tmp_path / "run").exists()


def test_the_learning_rate_is_in_proportion_to_the_batch(tmp_path):
    photos = str(tmp_path)
    assert TrainConfig(data="cifar10", batch_size=1024).completed().lr == pytest.approx(0.8)
    assert TrainConfig(data=photos, batch_size=256).completed().lr == pytest.approx(0.4)
    assert TrainConfig(data=photos, batch_size=256, lr=0.1).completed().lr == 0.1


# --- what each process reads ---------------------------------------------------------------------


def test_processes_read_together_what_one_reads():
    _, found = digits()
    whole, _ = data.training_batches(found, 16, 0, range(2))
    shares = [
        data.training_batches(
            found, 16, 0, range(2), parts=2, share=data.Share(process=n, processes=4)
        )
        for n in range(4)
    ]
    assert [steps for _, steps in shares] == [8] * 4
    expected = np.concatenate([images for images, _ in whole])
    parts = zip(*(batches for batches, _ in shares), strict=True)
    seen = np.concatenate([images for part in parts for images, _ in part])
    np.testing.assert_array_equal(seen, expected)


def test_full_batches_have_each_image_once():
    _, found = digits()
    batches, count = data.full_batches(found, "test", 8)
    assert count == 24
    images, labels, weights = (np.concatenate(part) for part in zip(*batches, strict=True))
    np.testing.assert_array_equal(weights, [1] * 20 + [0] * 4)
    np.testing.assert_array_equal(images[:20], found.test.items)
    np.testing.assert_array_equal(labels[:20].argmax(1), found.test.labels)
    weights = np.arange(10.0)
    of_second, _ = data.full_batches(
        found, "test", 8, data.Share(process=1, processes=2), weights=weights
    )
    first, _, weighed = next(iter(of_second))
    np.testing.assert_array_equal(first, images[4:8])
    np.testing.assert_array_equal(weighed, weights[found.test.labels[4:8]])


def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def linked_images(root, count, side):
    """Make a number of images in two classes from few files with many names."""
    for name, color in (("a", (200, 40, 40)), ("b", (40, 40, 200))):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (side, side), color).save(root / name / "0.png")
        for number in range(1, count // 2):
            os.link(root / name / "0.png", root / name / f"{number}.png")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux' memory figures")
@pytest.mark.parametrize(
    ("count", "side"),
    [(1000, 192), pytest.param(100_000, 64, marks=pytest.mark.slow)],
    ids=["1,000 images", "100,000 images"],
)
def test_a_folder_is_read_as_it_is_needed(count, side, tmp_path, monkeypatch):
    """The decoded images would take 110 MB, or 1200 MB for the larger folder."""
    monkeypatch.setattr(data, "CACHE_BYTES", 2**20)
    linked_images(tmp_path / "images", count, side)
    settings = config(data=str(tmp_path / "images"), image_size=side).completed()
    found = data.open_data(settings)
    batches, steps = data.training_batches(found, 8, 0, range(1))
    data.prepare(found)
    # Most memory in each half: the first fills the buffers, however long that takes.
    steps_seen, most = 0, [0.0, 0.0]
    for _ in batches:
        half = 2 * steps_seen // steps
        most[half] = max(most[half], resident())
        steps_seen += 1
    assert steps_seen == steps == int(0.65 * count) // 8
    assert most[1] - most[0] < 25


@pytest.mark.parametrize(
    ("reading", "working", "waiting"), [(0.04, 0.0, 1.0), (0.0, 0.02, 0.0), (0.03, 0.01, 0.75)]
)
def test_the_clock_tells_waiting_from_working(reading, working, waiting, monkeypatch):
    """Only reading and working advance this clock, so a busy machine changes nothing."""
    watch = [0.0]
    monkeypatch.setattr(input_clock, "time", SimpleNamespace(perf_counter=lambda: watch[0]))

    def read(number):
        watch[0] += reading
        return np.ones((4, 8), "float32")

    def example(number):
        image = tf.numpy_function(read, [number], tf.float32)
        return tf.ensure_shape(image, (4, 8)), tf.zeros((4, 1))

    class Work(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            watch[0] += working

    inputs = keras.Input((8,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse", jit_compile=False)
    clock = input_clock.InputClock(images_a_step=4)
    in_turn = tf.data.Options()
    in_turn.experimental_optimization.inject_prefetch = False  # it would read while others work
    batches = tf.data.Dataset.range(1000).map(example).with_options(in_turn)
    for epoch in range(2):
        model.fit(
            clock.watch(batches),
            steps_per_epoch=8,
            shuffle=False,
            verbose=0,
            callbacks=[clock, Work()],
        )
        clock.steps = 0
        figures = clock.figures()
        assert figures["waiting_for_input"] == pytest.approx(waiting, abs=1e-3), epoch
        assert figures["images_per_second"] == pytest.approx(4 / (reading + working), abs=0.1)


# --- one update ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [pytest.param({}, id="plain"), pytest.param({"clip_norm": 0.1}, id="clipped", marks=SLOW)],
)
def test_parts_add_up_to_the_batch(more, tmp_path):
    whole, one = trained(tmp_path / "one", batch_size=16, **more)
    parts, two = trained(tmp_path / "two", batch_size=16, accumulate=2, **more)
    assert_near(parts, whole, 1e-6)
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], abs=1e-5)
    other, _ = trained(tmp_path / "three", batch_size=8, lr=0.025, **more)
    assert max(np.abs(a - b).max() for a, b in zip(other, whole, strict=True)) > 1e-4


def gradient(model, images, labels):
    with tf.GradientTape() as tape:
        loss = model.loss(labels, model(images, training=True))
    return [g.numpy().astype("float64") for g in tape.gradient(loss, model.trainable_variables)]


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_clipping_is_by_the_norm_of_all_variables(precision):
    settings, found = digits(clip_norm=0.05, lr=0.5, epochs=1, precision=precision)
    model = build(settings, found)
    images, labels = next(iter(data.test_batches(found, 20)))
    expected = gradient(model, images, labels)
    norm = np.sqrt(sum((g**2).sum() for g in expected))
    assert norm > 0.1
    before = model.get_weights()
    # At step 1 the warm-up of one step is over.
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    inner.iterations.assign(1)
    rate = float(model.optimizer.learning_rate)
    model.train_on_batch(images, labels)
    # Sutskever et al. 2013: Nesterov's first step is (1 + momentum) gradients long.
    for old, new, g in zip(before, model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(
            new,
            old - rate * 1.9 * g * (0.05 / norm),
            rtol=0,
            atol=1e-6 if precision == "float32" else 2e-3,
        )


@pytest.mark.parametrize("parts", [1, 2])
def test_the_average_of_the_weights_takes_their_place(parts):
    """The average covers all parts of batches; those before the second update are its start."""
    settings, found = digits(ema=0.7, epochs=2, accumulate=parts)
    model = build(settings, found)
    seen = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(self.model.get_weights())

    model.fit(*gathered(found), batch_size=16, epochs=2, verbose=0, callbacks=[Record()])
    old = 0.7 ** (1 / parts)
    expected = seen[parts - 1]
    for weights in seen[parts:]:
        expected = [old * a + (1 - old) * w for a, w in zip(expected, weights, strict=True)]
    assert_near(model.get_weights(), expected, 1e-6)


def test_the_average_of_the_weights_is_tested(tmp_path):
    settings, found = digits(ema=0.7, epochs=2)
    model = build(settings, found)
    history = run.fit(model, settings, found, tmp_path)
    images, labels = next(iter(data.part_batches(found, "validation", 20)))
    chosen = history[choosing.best_epoch(history) - 1]
    assert float(model.loss(labels, model(images))) == pytest.approx(chosen["val_loss"], 1e-5)


def shuffled(split):
    order = np.random.default_rng(1).permutation(len(split))
    return dataclasses.replace(split, labels=split.labels[order])


def fitted(out, settings, found):
    keras.utils.set_random_seed(0)
    model = build(settings, found)
    out.mkdir(exist_ok=True)
    return model, run.fit(model, settings, found, out)


def test_the_test_part_chooses_nothing_and_validation_does(tmp_path):
    settings, found = digits(epochs=4, lr=2.0)
    model, history = fitted(tmp_path / "one", settings, found)
    chosen = choosing.best_epoch(history)
    assert chosen < 4
    other = dataclasses.replace(found, test=shuffled(found.test))
    again, same = fitted(tmp_path / "two", settings, other)
    assert without_time(same) == without_time(history)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    images, labels = next(iter(data.part_batches(found, "validation", 20)))
    right = np.argmax(model(images), 1) == np.argmax(labels, 1)
    assert right.mean() == pytest.approx(history[chosen - 1]["val_accuracy"])
    assert float(model.loss(labels, model(images))) == pytest.approx(
        history[chosen - 1]["val_loss"], rel=1e-5
    )


@pytest.mark.parametrize("after", [3, pytest.param(1, marks=SLOW), pytest.param(2, marks=SLOW)])
def test_a_stop_does_not_change_the_choice(after, tmp_path, monkeypatch):
    settings, found = digits(epochs=4, lr=2.0, ema=0.5, accumulate=2)
    model, history = fitted(tmp_path / "one", settings, found)
    assert choosing.best_epoch(history) < 4
    with monkeypatch.context() as patch:
        stop_once(patch, run._Epochs, "on_epoch_begin", after)
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path / "two", settings, found)
    again, same = fitted(tmp_path / "two", settings, found)
    assert without_time(same) == without_time(history)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_ends_when_its_patience_does(tmp_path):
    """The learning rate changes nothing, so the first epoch stays the best."""
    settings, found = digits(epochs=6, lr=1e-12, patience=2)
    _, history = fitted(tmp_path / "run", settings, found)
    assert len(history) == 3
    # The best one, and the last two.
    assert {path.name for path in (tmp_path / "run").glob("checkpoint*")} == {
        f"checkpoint-000{epoch}.{suffix}"
        for epoch in (1, 2, 3)
        for suffix in ("json", "weights.h5")
    }
    _, again = fitted(tmp_path / "run", settings, found)
    assert again == history


def test_classes_count_alike_where_they_are_to(tmp_path):
    settings, found = digits(epochs=2, class_weights="balanced", lr=0.5)
    many = np.flatnonzero((found.train.labels < 5) | (np.arange(64) % 4 < 3))
    whole = data.open_data(settings).validation.part(np.arange(150))
    found = dataclasses.replace(found, train=found.train.part(many), validation=whole)
    model, history = fitted(tmp_path / "run", settings, found)
    chosen = history[choosing.best_epoch(history) - 1]
    answers = np.argmax(model(found.validation.items.astype("float32")), 1)
    labels = found.validation.labels
    assert np.bincount(labels).std() > 0
    expected = balanced_accuracy_score(labels, answers)
    assert chosen["val_accuracy"] == pytest.approx(expected, abs=1e-6)
    weights = splits.balanced_weights(found.train.labels, 10)
    batches, _ = data.training_batches(found, 16, 0, range(1), weights=weights)
    for _, targets, weighed in batches:
        np.testing.assert_allclose(weighed, weights[np.argmax(targets, 1)], rtol=1e-6)


def gathered(found):
    images = found.train.items.astype("float32")
    return images, np.eye(10, dtype="float32")[found.train.labels]


@pytest.mark.parametrize(
    "where",
    [
        pytest.param((run._Epochs, "on_epoch_begin", 1), id="in the second epoch", marks=SLOW),
        pytest.param((keras.Model, "export", 0), id="in the export", marks=SLOW),
    ],
)
def test_averages_and_parts_survive_a_stop(where, tmp_path, monkeypatch):
    settings = config(batch_size=96, accumulate=4, ema=0.9, clip_norm=0.5, epochs=2)
    train(settings, tmp_path / "unbroken", network=no_chance)
    stop_once(monkeypatch, *where)
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "run", network=no_chance)
    train(settings, tmp_path / "run", resume=True, network=no_chance)
    assert_same_run(tmp_path / "unbroken", tmp_path / "run")


# --- TensorBoard ---------------------------------------------------------------------------------


@SLOW
def test_tensorboard_shows_the_history(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(config(batch_size=200), tmp_path / "run", tensorboard=True, network=no_chance)
    for part, name in (("train", "loss"), ("validation", "val_loss")):
        events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard" / part)).Reload()
        shown = [float(tf.make_ndarray(e.tensor_proto)) for e in events.Tensors("epoch_loss")]
        assert shown == pytest.approx([row[name] for row in rows(tmp_path / "run")], rel=1e-5)


def test_a_missing_tensorboard_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'se_keras\[tensorboard\]'"):
        train(config(), tmp_path / "run", tensorboard=True)


# --- several devices and processes, in processes of their own ------------------------------------

WORKER = "import sys, test_train_scale; test_train_scale.work(*sys.argv[1:])"


def work(network, text):
    """In a fresh process: `train` with a small network; its arguments are JSON."""
    arguments = json.loads(text)
    places = {f.name for f in dataclasses.fields(Cluster)} & set(arguments)
    where = Cluster(**{name: arguments.pop(name) for name in places})
    options = {name: arguments.pop(name) for name in ("out", "resume") if name in arguments}
    train(config(**arguments), cluster=where, network=NETWORKS[network], **options)


def begun(network, backend, **arguments):
    return started(network, json.dumps(arguments, default=str), backend=backend)


def started(*arguments, backend, code=WORKER):
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(TESTS)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err[-3000:]
    return out


def weights(folder):
    return keras.models.load_model(folder / "model.keras").get_weights()


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def pair(out, other=None, network="dropout", **arguments):
    """Two processes that meet on this machine; only the first one writes."""
    arguments |= {"coordinator": f"localhost:{free_port()}", "processes": 2}
    of_second = {"out": out.with_name(f"{out.name}-1"), "process": 1, **(other or {})}
    return [
        begun(network, "jax", **arguments | own) for own in ({"out": out, "process": 0}, of_second)
    ]


@SLOW
def test_two_devices_train_as_one(tmp_path):
    """They differ by rounding, because sums over a batch have another order."""
    settings = {"batch_size": 100, "sync_batch_norm": True, "ema": 0.9, "clip_norm": 0.2}
    two = begun("with_norm", "tensorflow", out=tmp_path / "2", devices=2, **settings)
    train(config(**settings), tmp_path / "1", network=with_norm)
    out = ended(two)
    assert "batches of 100 (2 devices x 50 images)" in out
    assert "learning rate up to 0.15625 (0.1 for 64 images, in proportion)" in out
    assert_near(weights(tmp_path / "2"), weights(tmp_path / "1"), 2e-5)
    for one, two in zip(rows(tmp_path / "1"), rows(tmp_path / "2"), strict=True):
        assert two["val_loss"] == pytest.approx(one["val_loss"], abs=1e-5)
        assert two["val_accuracy"] == pytest.approx(one["val_accuracy"], abs=1e-6)


OVERFLOW = """
import numpy as np, keras, tensorflow as tf
from se_keras.train import Cluster
from se_keras.train.cluster import join_devices
from se_keras.train.optimizer import MirroredLossScale
with join_devices(Cluster(devices=2)) as team, team.scope():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    optimizer = MirroredLossScale(keras.optimizers.SGD(0.1), initial_scale=8.0)
    model.compile(optimizer, "mse", jit_compile=False)
    before = model.get_weights()
    x = np.ones((4, 4), "float32")
    x[3] = np.inf
    def step(x):
        model.fit(tf.data.Dataset.from_tensors((x, np.zeros((4, 1), "float32"))), verbose=0)
    step(x)
    same = all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    print(same, float(keras.ops.convert_to_numpy(optimizer.dynamic_scale)))
    x[3] = 1.0
    step(x)
    kernel = model.get_weights()[0]
    print(np.isfinite(kernel).all(), np.array_equal(before[0], kernel))
"""


@pytest.mark.slow
def test_a_loss_that_overflows_on_the_second_device_is_no_update():
    out = ended(started(backend="tensorflow", code=OVERFLOW)).split()
    assert out == ["True", "4.0", "True", "False"]


@pytest.mark.slow
@pytest.mark.parametrize("network", ["dropout", "with_norm"])
def test_two_processes_train_as_one(network, tmp_path):
    one = begun(network, "jax", out=tmp_path / "1", batch_size=200)
    first, second = pair(tmp_path / "2", network=network, batch_size=200)
    for process in (one, second):
        ended(process)
    assert "200 (2 devices x 100 images)" in ended(first)
    assert not (tmp_path / "2-1").exists()
    assert_near(weights(tmp_path / "2"), weights(tmp_path / "1"), 1e-5)
    for a, b in zip(rows(tmp_path / "1"), rows(tmp_path / "2"), strict=True):
        assert b["val_loss"] == pytest.approx(a["val_loss"], abs=1e-5)


MESSAGES = """
import jax, keras, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
import se_keras
from se_keras.train.shared_gradient import share_gradient
parallel = keras.distribution.DataParallel(devices=["cpu:0", "cpu:1"], auto_shard_dataset=False)
draw = np.random.default_rng(0)
images = draw.normal(1, 1, (16, 8, 8, 1)).astype("float32")
labels, counts = np.eye(4, dtype="float32")[np.arange(16) % 4], np.arange(16, dtype="float32")
found = []
for shared in (False, True):
    keras.utils.set_random_seed(0)
    with parallel.scope():
        x = keras.Input((8, 8, 1))
        y = keras.layers.Conv2D(8, 3)(x)
        y = keras.layers.BatchNormalization()(y)
        y = se_keras.SqueezeExcite(4)(keras.layers.ReLU()(y))
        y = keras.layers.BatchNormalization(trainable=False)(y)
        y = keras.layers.GlobalAveragePooling2D()(y)
        model = keras.Model(x, keras.layers.Dense(4, "softmax", kernel_regularizer="l2")(y))
        optimizer = keras.optimizers.SGD(0.1, global_clipnorm=0.5)
        model.compile(optimizer, "categorical_crossentropy", weighted_metrics=["accuracy"])
        if shared:
            share_gradient(model, parallel)
        logs = [model.train_on_batch(images, labels, counts) for _ in range(3)]
        found.append(np.concatenate([np.ravel(a) for a in [*model.get_weights(), logs]]))
        state = [
            [v.value for v in each]
            for each in (
                model.trainable_variables, model.non_trainable_variables,
                model.optimizer.variables, model.metrics_variables,
            )
        ]
        text = str(jax.make_jaxpr(model.train_step)(state, (images, labels, counts)))
        print(*(text.count(kind) for kind in ("all_gather[", "reduce_scatter[", "psum")))
print(np.allclose(found[0], found[1], rtol=1e-5, atol=1e-5))
"""


class OfAUser(keras.layers.ReLU):
    """A layer of unknown behavior."""


@pytest.mark.parametrize(
    ("make", "apart"),
    [
        (keras.layers.BatchNormalization, True),
        (se_keras.SqueezeExcite, True),
        (lambda: keras.layers.Dropout(0.0), True),
        (lambda: keras.layers.Dropout(0.5), False),
        (lambda: keras.layers.BatchNormalization(renorm=True), False),
        (lambda: se_keras.GatherExcite(extent=2, extra_params=True), False),
        (lambda: keras.layers.TimeDistributed(keras.layers.ReLU()), False),
        (lambda: keras.layers.Lambda(lambda x: x - keras.ops.mean(x)), False),
        (lambda: lambda x: x - keras.ops.mean(x), False),
        (OfAUser, False),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_only_a_network_that_is_known_shares_its_gradient(make, apart, nested):
    x = keras.Input((4, 4, 4))
    model = keras.Model(x, make()(x))
    outer = keras.Sequential([x, model]) if nested else model
    assert takes_images_apart(outer) == apart


@pytest.mark.slow
def test_a_gradient_is_one_message_and_each_normalization_two():
    out = ended(started(backend="jax", code=MESSAGES)).splitlines()
    # No `all_gather`: its gradient, a reduce-scatter, would make gloo's socket slow.
    assert out == ["0 0 0", "0 0 3", "True"]


@pytest.mark.slow
def test_two_processes_end_early_together(tmp_path):
    """The learning rate changes nothing, so the first epoch stays the best."""
    settings = {"epochs": 6, "patience": 2, "lr": 1e-12, "ema": 0.5, "batch_size": 200}
    first, second = pair(tmp_path / "run", network="no_chance", **settings)
    out = ended(first)
    ended(second)
    assert "The run ends: 2 epochs were no better than epoch 1." in out
    assert len(rows(tmp_path / "run")) == 3


def wait_for_checkpoint(process, folder):
    until = time.monotonic() + DEADLINE
    while not list(folder.glob("checkpoint-*")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until, "no epoch was finished"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1], ids=["the first", "the second"])
def test_a_killed_process_ends_the_other_and_nothing_is_lost(victim, tmp_path):
    settings = {"epochs": 12, "batch_size": 200, "ema": 0.9, "accumulate": 2}
    for process in pair(tmp_path / "unbroken", **settings):
        ended(process)
    processes = pair(tmp_path / "run", **settings)
    wait_for_checkpoint(processes[0], tmp_path / "run")
    processes[victim].send_signal(signal.SIGKILL)
    processes[victim].communicate()
    _, err = processes[1 - victim].communicate(timeout=DEADLINE)
    # Where the first process is gone, JAX itself may be the first to notice: it aborts.
    assert processes[1 - victim].returncode in (2, -signal.SIGABRT)
    assert "lost another process" in err or "another task died" in err
    assert not (tmp_path / "run" / "report.json").exists()

    again = {**settings, "resume": True}
    if victim == 0:
        out = [ended(process) for process in pair(tmp_path / "run", **again)]
        assert_same_run(tmp_path / "unbroken", tmp_path / "run")
    else:  # with the one that is left
        out = [ended(begun("dropout", "jax", out=tmp_path / "run", **again))]
        assert_near(weights(tmp_path / "run"), weights(tmp_path / "unbroken"), 1e-5)
    assert "Going on after epoch" in out[0]


@pytest.mark.slow
def test_a_process_with_other_settings_is_refused(tmp_path):
    first, second = pair(tmp_path / "run", other={"lr": 0.3})
    _, err = second.communicate(timeout=DEADLINE)
    assert second.returncode == 2
    line = err.splitlines()[-1]
    assert line == (
        "se-keras train: process 1 of 2: this process has different settings or images from "
        "process 0."
    )
    first.communicate(timeout=DEADLINE)
    assert first.returncode != 0
    assert not (tmp_path / "run" / "report.json").exists()


@pytest.mark.slow
def test_parts_add_up_on_jax_too(tmp_path):
    settings = {"batch_size": 96, "clip_norm": 0.1}
    whole = begun("no_chance", "jax", out=tmp_path / "1", **settings)
    two = begun("no_chance", "jax", out=tmp_path / "2", accumulate=3, devices=2, **settings)
    ended(whole), ended(two)
    assert_near(weights(tmp_path / "2"), weights(tmp_path / "1"), 1e-5)


def test_no_coordinator_is_one_line(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.1)
    with pytest.raises(InputError, match=r"No process 0 was found at localhost:1 within 0\.1 s"):
        cluster._await_coordinator("localhost:1")

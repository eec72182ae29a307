"""Run a training on one device, on several devices of this machine, or on several machines.

Every device has all weights and an equal part of each batch. With the TensorFlow backend this is
`tf.distribute.MirroredStrategy`, with JAX `keras.distribution.DataParallel`, which also supports
several processes. (Keras 3 has no `MultiWorkerMirroredStrategy`.)
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from se_keras.support.errors import InputError, in_one_line
from se_keras.support.signals import exit_code, signal_of
from se_keras.train.config import Cluster
from se_keras.train.data import ALL, Share
from se_keras.train.shared_gradient import share_gradient

# Seconds that a process waits for the others at the start.
PATIENCE = 300
# Seconds without a sign of life after which a process counts as dead, such as on a machine that was
# switched off. If a process is killed, its connections close, and the others notice at once.
HEARTBEAT = 30
# Words of the errors that jaxlib raises, as a bare `ValueError`, if another process is gone.
LOST = ("gloo", "nccl", "coordination", "heartbeat", "peer", "socket closed")


@dataclass(frozen=True, kw_only=True, eq=False)
class Team:
    """A running cluster, seen from one of its processes.

    Attributes:
        devices: names of all devices, of all processes.
        share: the number of this process, and the part of each batch that it reads.
        scope: the context in which the model is made and trained.
        adapt: a function that changes the model before the processes train it.
    """

    devices: tuple[str, ...]
    share: Share = ALL
    scope: Callable[[], AbstractContextManager] = nullcontext
    adapt: Callable[[keras.Model], None] = lambda model: None

    @property
    def leads(self) -> bool:
        """Return whether this is the first process, which alone writes files."""
        return self.share.process == 0

    @property
    def replicas(self) -> int:
        """Return the number of devices."""
        return len(self.devices)

    def from_first(self, content: bytes) -> bytes:
        """Return the content from the first process; all processes must call this."""
        if self.share.processes == 1:
            return content
        header = np.frombuffer(len(content).to_bytes(8, "little"), "uint8")
        length = int.from_bytes(_broadcast(header), "little")
        ours = np.frombuffer(content, "uint8") if self.leads else np.zeros(length, "uint8")
        return _broadcast(ours).tobytes()


def _broadcast(array: np.ndarray) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(array))


@contextmanager
def on_own_device() -> Iterator[None]:
    """Make Keras create variables only on this process' device."""
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


@contextmanager
def quick_compilation() -> Iterator[None]:
    """Let JAX compile without optimizing, for code that runs once, such as drawing weights."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, True)
    try:
        yield
    finally:
        jax.config.update(name, before)


@contextmanager
def join_devices(cluster: Cluster) -> Iterator[Team]:
    """Connect the devices, and wait for all processes at the end.

    With several processes, an error in the block ends this process at once with one line, because
    the others would wait for it.

    Raises:
        InputError: if the backend does not support this, or there are too few devices.
    """
    if keras.backend.backend() not in ("tensorflow", "jax"):
        raise InputError("Training needs the TensorFlow or the JAX backend: set KERAS_BACKEND.")
    if cluster.coordinator is not None and keras.backend.backend() != "jax":
        raise InputError("Several processes need the JAX backend: set KERAS_BACKEND=jax.")
    if cluster.coordinator is None:
        on_jax = keras.backend.backend() == "jax"
        yield _jax_team(cluster) if on_jax else _tensorflow_team(cluster)
        return
    import jax

    try:
        yield _jax_team(cluster)
        jax.distributed.shutdown()
    except BaseException as error:
        _end_process(error, cluster)


def _tensorflow_team(cluster: Cluster) -> Team:
    count, kind = cluster.devices or 1, "CPU"
    if tf.config.list_physical_devices("GPU"):
        kind = "GPU"
    elif count > 1:
        (cpu, *_) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * count
        with contextlib.suppress(RuntimeError):  # TensorFlow has started already
            tf.config.set_logical_device_configuration(cpu, parts)
    names = tuple(device.name for device in tf.config.list_logical_devices(kind))
    _check_enough(count, names)
    if count == 1:
        return Team(devices=names[:1])
    strategy = tf.distribute.MirroredStrategy(names[:count])
    return Team(devices=names[:count], scope=strategy.scope)


def _jax_team(cluster: Cluster) -> Team:
    import jax

    with contextlib.suppress(RuntimeError):  # TensorFlow, the reader, has started already
        tf.config.set_visible_devices([], "GPU")
    with contextlib.suppress(RuntimeError):  # JAX has started already
        jax.config.update("jax_num_cpu_devices", cluster.devices or 1)
    if cluster.coordinator is not None:
        _meet(cluster)
    count = cluster.devices or (jax.local_device_count() if cluster.coordinator else 1)
    _check_enough(count, jax.local_devices())
    devices = [
        f"{device.platform}:{device.id}"
        for process in range(jax.process_count())
        for device in [d for d in jax.devices() if d.process_index == process][:count]
    ]
    if len(devices) == 1:
        return Team(devices=tuple(devices))
    # `training_batches` gives each process its own images, so Keras must not split them again.
    parallel = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    share = Share(process=jax.process_index(), processes=jax.process_count())
    team = Team(devices=tuple(devices), share=share, scope=parallel.scope)
    if share.processes == 1:
        return team
    return replace(team, adapt=partial(share_gradient, parallel=parallel))


def _check_enough(count: int, there: Any) -> None:
    if count > len(there):
        raise InputError(
            f"`devices` must be at most {len(there)}, as many as this process has, got {count}."
        )


def _meet(cluster: Cluster) -> None:
    """Wait until all processes have started."""
    import jax

    number, count = cluster.process, cluster.processes
    assert number is not None  # the cluster has been checked
    assert cluster.coordinator is not None
    print(
        f"Process {number} of {count}: waiting up to {PATIENCE} s for the others at "
        f"{cluster.coordinator}",
        flush=True,
    )
    if number > 0:
        _await_coordinator(cluster.coordinator)
    _let_workers_finish()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        cluster.coordinator,
        num_processes=count,
        process_id=number,
        initialization_timeout=PATIENCE,
        heartbeat_timeout_seconds=HEARTBEAT,
        shutdown_timeout_seconds=PATIENCE,
    )
    if threading.current_thread() is threading.main_thread():
        # JAX has replaced Python's handler.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


def _let_workers_finish() -> None:
    """Keep the threads of this process from interrupting each other.

    When a thread has sent a message, gloo's own thread wakes up. On the same core it would
    interrupt the sender, which still holds a lock, and try to get this lock again and again. This
    takes 3 ms for each message.
    """
    with contextlib.suppress(AttributeError, OSError):  # not on Linux, or not allowed
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _await_coordinator(address: str) -> None:
    # JAX itself would end the process without a useful message.
    host, _, port = address.rpartition(":")
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
                return
        except OSError as error:
            if time.monotonic() > until:
                raise InputError(
                    f"No process 0 was found at {address} within {PATIENCE} s ({error})."
                ) from error
            time.sleep(0.2)


def _end_process(error: BaseException, cluster: Cluster) -> None:
    """Print the reason, and end the process without JAX's shutdown, which waits for the others."""
    number, count = cluster.process, cluster.processes
    code, text = 2, in_one_line(error)
    if stopped_by := signal_of(error):
        code = exit_code(stopped_by)
        text = "stopped; to continue, start all processes again with --resume"
    elif not isinstance(error, InputError | OSError) and any(w in text.lower() for w in LOST):
        text = f"lost another process, start all of them again with --resume ({text[:200]})"
    elif not isinstance(error, InputError | OSError):
        traceback.print_exc()
        code = 1
    print(f"se-keras train: process {number} of {count}: {text}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

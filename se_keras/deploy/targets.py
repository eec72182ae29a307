"""The export targets: one row for each format and precision."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from se_keras.deploy.calibration import Arrays
from se_keras.deploy.padded_pool import PAD_IN_POOL
from se_keras.deploy.to_litert import compress_litert, quantize_litert, write_litert
from se_keras.deploy.to_onnx import compress_onnx, quantize_onnx, write_onnx
from se_keras.deploy.to_openvino import (
    compress_openvino,
    quantize_openvino,
    write_openvino,
    write_openvino_bfloat16,
)
from se_keras.deploy.to_saved_model import write_saved_model, write_saved_model_bfloat16
from se_keras.graph import trace
from se_keras.rewrite.optimize import OPENVINO_RULES, RULES, TENSORFLOW_RULES, Rule, rewrite
from se_keras.support.arguments import plain_text
from se_keras.support.errors import MAX_VALUE, InputError, shown

# All engines but LiteRT have max pools that pad.
PADDED = (*RULES, PAD_IN_POOL)
FOR_TENSORFLOW = (*TENSORFLOW_RULES, PAD_IN_POOL)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A format with a precision.

    Attributes:
        format, precision: as in `se_keras.export`.
        write: function that writes an optimized float32 model to a path, and returns a description
            of the method.
        calibrate: the same function with calibration samples; `None` if they change nothing.
        rules: rules that optimize a model for this engine.
    """

    format: str
    precision: str
    write: Callable[[keras.Model, Path], str]
    calibrate: Callable[[keras.Model, Path, Arrays], str] | None = None
    rules: tuple[Rule, ...] = PADDED

    def optimize(self, model: keras.Model) -> keras.Model:
        """Return a copy of a functional model, rewritten by the rules."""
        graph = trace(model)
        rewrite(graph, self.rules)
        return graph.build()

    def write_file(self, model: keras.Model, path: Path, calibration: Arrays | None) -> str:
        if self.calibrate is None or calibration is None:
            return self.write(model, path)
        return self.calibrate(model, path, calibration)


TARGETS = (
    Target(
        format="tf_saved_model",
        precision="float32",
        write=write_saved_model,
        rules=FOR_TENSORFLOW,
    ),
    Target(
        format="tf_saved_model",
        precision="bfloat16",
        write=write_saved_model_bfloat16,
        rules=FOR_TENSORFLOW,
    ),
    Target(format="onnx", precision="float32", write=write_onnx),
    Target(format="onnx", precision="int8", write=compress_onnx, calibrate=quantize_onnx),
    Target(
        format="openvino",
        precision="float32",
        write=write_openvino,
        rules=(*OPENVINO_RULES, PAD_IN_POOL),
    ),
    Target(format="openvino", precision="bfloat16", write=write_openvino_bfloat16),
    Target(
        format="openvino",
        precision="int8",
        write=compress_openvino,
        calibrate=quantize_openvino,
    ),
    Target(format="litert", precision="float32", write=write_litert, rules=RULES),
    Target(
        format="litert",
        precision="int8",
        write=compress_litert,
        calibrate=quantize_litert,
        rules=RULES,
    ),
)


def find_target(format: str, precision: str) -> Target:
    """Return the target of a format and a precision.

    Raises:
        InputError: if there is no such target; the message lists all of them.

    Example:

    >>> from se_keras.deploy.targets import find_target
    >>> find_target("litert", "bfloat16")
    Traceback (most recent call last):
    ...
    se_keras.support.errors.InputError: `format` and `precision` must be tf_saved_model in \
float32, bfloat16; onnx in float32, int8; openvino in float32, bfloat16, int8; litert in float32, \
int8, got litert in bfloat16.
    """
    precisions: dict[str, list[str]] = {}
    asked = plain_text(format), plain_text(precision)
    for row in TARGETS:
        precisions.setdefault(row.format, []).append(row.precision)
        if (row.format, row.precision) == asked:
            return row
    have = "; ".join(f"{name} in {', '.join(rows)}" for name, rows in precisions.items())
    raise InputError(
        f"`format` and `precision` must be {have}, got {_word(format)} in {_word(precision)}."
    )


def _word(value: Any) -> str:
    text = plain_text(value)
    return text if text and text.isidentifier() and len(text) < MAX_VALUE else shown(value)

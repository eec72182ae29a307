"""Record the results of this backend of Keras, on a GPU for example, for test_backends.py.

KERAS_BACKEND=jax python tests/record_backend.py FOLDER/jax

TensorFlow is not needed. On a GPU, ask for sums in float32:
JAX_DEFAULT_MATMUL_PRECISION=highest, and NVIDIA_TF32_OVERRIDE=0 for PyTorch.
"""

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
os.environ.setdefault("MPLBACKEND", "Agg")

import keras
from test_backends import CASES, is_slow, record
from test_without_tensorflow import fit_in_bfloat16


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    backend = keras.backend.backend()
    record(folder, *(name for name in CASES if not is_slow(backend, name)))
    fit_in_bfloat16(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

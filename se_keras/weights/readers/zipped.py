"""Read PyTorch files that are each packed in a zip archive, as pytorchcv publishes them."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from se_keras.support.archives import unpack_single_file
from se_keras.support.errors import InputError
from se_keras.weights.readers.pytorch import open_torch
from se_keras.weights.readers.tensors import Contents

KIND = ".pth"


@contextmanager
def open_zipped_torch(path: Path, key: str | None = None) -> Iterator[Contents]:
    """Open the weights in the only file of an archive, a `.pth` file.

    Args:
        path: path of the archive.
        key: the set of weights to read, as in `open_torch`.

    Raises:
        InputError: if the archive or the file is damaged, or holds anything else.
        MissingExtraError: without PyTorch.
    """
    with ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory())
        unpacked = Path(folder) / f"weights{KIND}"  # a file can be mapped into memory
        unpack_single_file(path, KIND, unpacked)
        try:
            contents = opened.enter_context(open_torch(unpacked, key))
        except InputError as error:
            raise type(error)(str(error).replace(str(unpacked), str(path))) from error
        yield contents

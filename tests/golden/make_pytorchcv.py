"""Run pytorchcv's SE networks with drawn weights, and store their outputs in a file each.

Needs torch and pytorchcv, not Keras:  python tests/golden/make_pytorchcv.py [pytorchcv_NAME...]

Each file holds `logits_64` and `logits_97` (of small images `logits_32` and `logits_31`), and
`names`, the digest of the names and shapes of the network's tensors. pytorchcv pools 7x7 positions
(8x8) at the end: all positions here, the same at the size that the network was made for.
"""

import importlib
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from drawn_weights import image  # noqa: E402
from make_timm import write_files  # noqa: E402
from pytorchcv_weights import ROWS, is_small, sizes  # noqa: E402
from timm_weights import digest, draw  # noqa: E402


def build(name):
    """Return the network with a global last pool and drawn weights."""
    import torch

    # Not by its `get_model`, which imports all networks, and what these need.
    file = re.match(r"[a-z]+", name)[0] + ("_cifar" if is_small(name) else "")
    networks = importlib.import_module(f"pytorchcv.models.{file}")
    model = getattr(networks, name)().eval()
    model.features.final_pool = torch.nn.AdaptiveAvgPool2d(1)
    state = {key: draw(key, value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return model


def reference(file):
    import torch

    name = file.removeprefix("pytorchcv_")
    model = build(name)
    arrays = {"names": digest({key: tuple(t.shape) for key, t in model.state_dict().items()})}
    for size in sizes(name):
        with torch.inference_mode():
            logits = model(torch.from_numpy(image(size).transpose(0, 3, 1, 2).copy()))
        arrays[f"logits_{size}"] = logits[0].numpy()
    return arrays


if __name__ == "__main__":
    write_files([f"pytorchcv_{name}" for name in ROWS if not name.endswith("_svhn")], reference)

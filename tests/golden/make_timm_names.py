"""List the tensors of timm's SE networks: names and shapes, as one digest for each network.

Needs torch and timm, not Keras:  python tests/golden/make_timm_names.py

Writes `timm_names.txt`: a network, the number of its tensors, and their digest, a line.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from make_timm import NAMES, load_timm  # noqa: E402
from timm_weights import digest  # noqa: E402


def main():
    torch, timm = load_timm()
    lines = []
    for name in NAMES:
        with torch.device("meta"):  # no memory for the weights
            state = timm.create_model(name, pretrained=False).state_dict()
        shapes = {key: tuple(value.shape) for key, value in state.items()}
        lines.append(f"{name} {len(shapes)} {digest(shapes)}\n")
    (HERE / "timm_names.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()

"""Run timm's SE networks with drawn weights, and store their outputs in a file each.

Needs torch and timm, not Keras:  python tests/golden/make_timm.py [NAME...]

Each file holds, for each size in `SIZES`, `logits_224` (1000,) and `stage2_224` ... `stage5_224`,
the means of the stages' outputs over all positions, (C,).
"""

import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from drawn_weights import image  # noqa: E402
from timm_weights import DEEP, DEEPEST, SIZES, draw  # noqa: E402

NAMES = (
    "seresnet18",
    "seresnet34",
    "seresnet50",
    "seresnet101",
    "seresnet152",
    "seresnet152d",
    "seresnet50t",
    "seresnetaa50d",
    "seresnet200d",
    "seresnet269d",
    "seresnext26d_32x4d",
    "seresnext26t_32x4d",
    "seresnext50_32x4d",
    "seresnext101_32x4d",
    "seresnext101_64x4d",
    "seresnext101_32x8d",
    "seresnext101d_32x8d",
    "seresnextaa101d_32x8d",
    "seresnextaa201d_32x8d",
    "resnetrs50",
    "resnetrs101",
    "resnetrs152",
    "resnetrs200",
    "resnetrs270",
    "resnetrs350",
    "resnetrs420",
    "ecaresnet26t",
    "ecaresnet50t",
    "ecaresnet50d",
    "ecaresnet101d",
    "ecaresnetlight",
    "ecaresnet269d",
    "senet154",
    "legacy_seresnet18",
    "legacy_seresnet34",
    "legacy_seresnet50",
    "legacy_seresnet101",
    "legacy_seresnet152",
    "legacy_seresnext26_32x4d",
    "legacy_seresnext50_32x4d",
    "legacy_seresnext101_32x4d",
    "legacy_senet154",
)


def load_timm():
    import torch

    try:
        import torchvision  # noqa: F401
    except (
        RuntimeError
    ):  # a torchvision of another build lacks its operators; timm needs only these
        load_timm.stubs = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            load_timm.stubs.define(f"{operator}(Tensor boxes, Tensor s, float t) -> Tensor")
    import timm

    return torch, timm


def reference(name):
    torch, timm = load_timm()
    model = timm.create_model(name, pretrained=False).eval()
    state = model.state_dict()
    model.load_state_dict(
        {key: torch.from_numpy(draw(key, value.shape)) for key, value in state.items()}
    )
    if name in DEEP:
        model.double()
    dtype = next(model.parameters()).dtype
    kept = {}
    for stage in (2, 3, 4, 5):
        model.get_submodule(f"layer{stage - 1}").register_forward_hook(
            lambda _module, _inputs, output, stage=stage: kept.update(
                {stage: output.mean((2, 3))[0]}
            )
        )
    arrays = {}
    for size in SIZES:
        with torch.inference_mode():
            logits = model(torch.from_numpy(image(size).transpose(0, 3, 1, 2).copy()).to(dtype))
        arrays[f"logits_{size}"] = logits[0].float().numpy()
        arrays |= {f"stage{i}_{size}": mean.float().numpy().copy() for i, mean in kept.items()}
    return arrays


def write_files(names, reference):
    """Store the results of `reference(name)` for the names on the command line, or for all."""
    for name in sys.argv[1:] or names:
        path = HERE / f"{name}.npz"
        np.savez_compressed(path, **reference(name))
        print(f"{path.name}: {path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    write_files([name for name in NAMES if name not in DEEPEST], reference)

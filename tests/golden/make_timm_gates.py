"""Run timm's gate modules that se_keras has too with drawn weights, and store their outputs.

Needs torch and timm, not Keras:  python tests/golden/make_timm_gates.py

Writes `timm_gates.npz`: of each case in `CASES` the input `x`, the output `y` (both N, H, W, C) and
the weights by timm's names. timm 1.0.31 can't make a `GatherExcite` with parameters: it hands the
names of arguments on as arguments (`*dd` where `**dd` is meant). What its constructor means to put
in, `gather` and `mlp`, is put in here; its `forward` runs as it is.
"""

import pathlib

import numpy as np
from make_timm import load_timm

HERE = pathlib.Path(__file__).parent
# Name: module, channels, its arguments, height and width.
CASES = {
    "eca_8": ("EcaModule", 8, {}, (5, 6)),
    "eca_64": ("EcaModule", 64, {}, (2, 3)),
    "eca_256": ("EcaModule", 256, {}, (1, 2)),
    "ese": ("EffectiveSEModule", 12, {}, (5, 6)),
    "ge": ("GatherExcite", 3, {"use_mlp": False}, (5, 6)),
    "ge_2": ("GatherExcite", 3, {"extent": 2, "use_mlp": False}, (5, 6)),
    "ge_4": ("GatherExcite", 3, {"extent": 4, "use_mlp": False}, (5, 11)),
    "ge_8": ("GatherExcite", 3, {"extent": 8, "use_mlp": False}, (19, 9)),
    "ge_mlp": ("GatherExcite", 16, {"use_mlp": True}, (2, 3)),
    "ge_4_mlp": ("GatherExcite", 16, {"extent": 4, "use_mlp": True}, (3, 5)),
    "ge_2_params": ("GatherExcite", 3, {"extent": 2, "extra_params": True}, (5, 6)),
    "ge_4_params": ("GatherExcite", 3, {"extent": 4, "extra_params": True}, (5, 11)),
    "ge_8_params_mlp": (
        "GatherExcite",
        16,
        {"extent": 8, "extra_params": True, "use_mlp": True},
        (5, 9),
    ),
}


def make_module(torch, kind, channels, options):
    import timm.layers

    if kind != "GatherExcite":
        return getattr(timm.layers, kind)(channels, **options)
    plain = {"extent": options.get("extent", 0), "use_mlp": False}
    module = timm.layers.GatherExcite(channels, **plain)
    if options.get("extra_params"):
        parts, count = {}, module.extent.bit_length() - 1
        for n in range(1, count + 1):
            parts[f"conv{n}"] = timm.layers.create_conv2d(
                channels, channels, kernel_size=3, stride=2, depthwise=True
            )
            parts[f"norm{n}"] = torch.nn.BatchNorm2d(channels)
            if n < count:
                parts[f"act{n}"] = torch.nn.ReLU()
        module.gather = torch.nn.Sequential()
        for name, part in parts.items():
            module.gather.add_module(name, part)
    if options.get("use_mlp"):
        module.mlp = timm.layers.mlp.ConvMlp(channels, channels // 16)
    return module


def main():
    torch, _ = load_timm()
    arrays = {}
    for name, (kind, channels, options, size) in CASES.items():
        rng = np.random.default_rng(len(arrays))
        module = make_module(torch, kind, channels, options).eval()
        state = module.state_dict()
        for key, value in state.items():
            low = 0.5 if key.endswith("running_var") else -1
            drawn = rng.uniform(low, 1, tuple(value.shape)).astype("float32")
            state[key] = torch.from_numpy(drawn) if value.dtype.is_floating_point else value
        module.load_state_dict(state)
        x = rng.uniform(-1, 1, (1, channels, *size)).astype("float32")
        with torch.inference_mode():
            y = module(torch.from_numpy(x)).numpy()
        arrays |= {f"{name}/x": np.moveaxis(x, 1, -1), f"{name}/y": np.moveaxis(y, 1, -1)}
        arrays |= {
            f"{name}/weights/{key}": value.numpy()
            for key, value in state.items()
            if value.dtype.is_floating_point
        }
    np.savez_compressed(HERE / "timm_gates.npz", **arrays)


if __name__ == "__main__":
    main()

"""Run timm's evaluation transform on scikit-learn's two photos, and list its published weights.

Needs torch, timm and the folder of the photos (`sklearn/datasets/images`), not Keras:

    python tests/golden/make_preprocessing.py FOLDER

`preprocessing.npz` holds for each of `SOURCES` and each photo every 7th pixel each way, as uint8
(`NAME/PHOTO/pixels`), every 16th at the size for tests (`NAME/PHOTO/test`), and every 28th as the
network gets it, (8, 8, 3) float32 (`NAME/PHOTO/normalized`). `timm_published.json` holds what timm
says of each set of weights.
"""

import dataclasses
import json
import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

from make_timm import load_timm  # noqa: E402

# One for each way that the published weights have their images prepared.
SOURCES = (
    "seresnet50.a1_in1k",
    "seresnet50.a3_in1k",
    "seresnet50.ra2_in1k",
    "seresnet152d.ra2_in1k",
    "legacy_seresnet50.in1k",
)
PHOTOS = ("china.jpg", "flower.jpg")
FIELDS = (
    "url",
    "hf_hub_id",
    "input_size",
    "crop_pct",
    "test_input_size",
    "test_crop_pct",
    "num_classes",
    "interpolation",
    "mean",
    "std",
    "license",
)


def main():
    _, timm = load_timm()
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    arrays = {}
    for name in SOURCES:
        published = timm.get_pretrained_cfg(name)
        config = resolve_data_config(dataclasses.asdict(published))
        raw, normalized = (create_transform(**config, normalize=flag) for flag in (False, True))
        for photo in PHOTOS:
            image = Image.open(pathlib.Path(sys.argv[1]) / photo).convert("RGB")
            pixels, values = raw(image).numpy(), normalized(image).numpy()
            arrays[f"{name}/{photo}/pixels"] = pixels.transpose(1, 2, 0)[::7, ::7].copy()
            arrays[f"{name}/{photo}/normalized"] = values.transpose(1, 2, 0)[::28, ::28].copy()
            if published.test_input_size:
                larger = resolve_data_config({}, dataclasses.asdict(published), use_test_size=True)
                pixels = create_transform(**larger, normalize=False)(image).numpy()
                arrays[f"{name}/{photo}/test"] = pixels.transpose(1, 2, 0)[::16, ::16].copy()
    np.savez_compressed(HERE / "preprocessing.npz", **arrays)

    listed = {}
    for name in timm.list_pretrained():
        if name.startswith(
            ("seresnet", "seresnext", "senet154", "legacy_se", "resnetrs", "ecares")
        ):
            config = timm.get_pretrained_cfg(name)
            listed[name] = {field: getattr(config, field) for field in FIELDS}
    (HERE / "timm_published.json").write_text(json.dumps(listed, indent=1) + "\n")


if __name__ == "__main__":
    main()

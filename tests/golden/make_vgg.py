"""Run timm's VGG-16 with drawn weights, and store its outputs in a file each.

Needs torch and timm, not Keras:  python tests/golden/make_vgg.py [NAME...]

Each file holds `logits_224` (1000,), and for each size of `SIZES` `stage1_224` ... `stage5_224`,
the means of the pooled maps over all positions, (C,).
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from drawn_weights import image  # noqa: E402
from make_timm import load_timm, write_files  # noqa: E402
from timm_weights import draw  # noqa: E402

NAMES = ("vgg16", "vgg16_bn")
SIZES = (224, 97)


def reference(name):
    torch, timm = load_timm()
    model = timm.create_model(name, pretrained=False).eval()
    state = {
        key: torch.from_numpy(draw(key, value.shape)) for key, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    means = []
    for module in model.features:
        if isinstance(module, torch.nn.MaxPool2d):
            module.register_forward_hook(lambda _m, _x, y: means.append(y.mean((2, 3))[0].numpy()))
    arrays = {}
    for size in SIZES:
        means.clear()
        x = torch.from_numpy(image(size).transpose(0, 3, 1, 2).copy())
        with torch.inference_mode():
            maps = model.forward_features(x)
            if size == 224:
                arrays["logits_224"] = model.forward_head(maps)[0].numpy()
        arrays |= {f"stage{stage}_{size}": mean for stage, mean in enumerate(means, start=1)}
    return arrays


if __name__ == "__main__":
    write_files(NAMES, reference)

"""Run the upstream plain Inception networks with drawn weights, and store their outputs.

Needs torch, timm and the files of pretrainedmodels, not Keras:
python tests/golden/make_inception.py [NAME...]

Each file holds, for each of the network's sizes, `logits_299` (1000,) and `stage1_299` ...
`stage5_299`, the means of the stages' outputs over all positions, (C,), and `multiply_adds_299` of
its convolutions and its classifier.
"""

import importlib.util
import pathlib
import sys

import numpy as np
from make_timm import load_timm, write_files

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from drawn_weights import image  # noqa: E402
from inception_weights import SIZES, draw_inception  # noqa: E402

# The layers whose input is the output of stages 1 to 5.
READERS = {
    "bn_inception": (
        "pool1_3x3_s2",
        "pool2_3x3_s2",
        "inception_3c_3x3_reduce",
        "inception_4e_3x3_reduce",
        "global_pool",
    ),
    "inception_v3": ("Pool1", "Pool2", "Mixed_6a", "Mixed_7a", "global_pool"),
    "inception_resnet_v2": ("maxpool_3a", "maxpool_5a", "mixed_6a", "mixed_7a", "global_pool"),
}


def bn_inception():
    # The package imports much more than this file, which stands alone.
    package = importlib.util.find_spec("pretrainedmodels").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location("bn", f"{package}/models/bninception.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.bninception(pretrained=None)


def network(name, torch, timm):
    model = bn_inception() if name == "bn_inception" else timm.create_model(name)
    drawn = {key: draw_inception(key, value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(value) for key, value in drawn.items()})
    return model.eval()


def reference(name):
    torch, timm = load_timm()
    model = network(name, torch, timm)
    means, multiply_adds = {}, []
    for stage, reader in enumerate(READERS[name], start=1):
        model.get_submodule(reader).register_forward_pre_hook(
            lambda _module, inputs, stage=stage: means.update({stage: inputs[0].mean((2, 3))[0]})
        )
    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(
                lambda module, _inputs, output: multiply_adds.append(
                    module.weight.numel() * output[0, 0].numel()
                )
            )
    arrays = {}
    for size in SIZES[name]:
        multiply_adds.clear()
        with torch.inference_mode():
            logits = model(torch.from_numpy(image(size).transpose(0, 3, 1, 2).copy()))
        arrays[f"logits_{size}"] = logits[0].numpy()
        arrays[f"multiply_adds_{size}"] = np.array(sum(multiply_adds))
        arrays |= {f"stage{stage}_{size}": mean.numpy().copy() for stage, mean in means.items()}
    return arrays


if __name__ == "__main__":
    write_files(SIZES, reference)

"""Names of the Inception networks' tensors in other libraries, with drawn weights.

Needs neither torch nor timm: `golden/make_inception.py` runs the upstream networks with these
weights and keeps what comes out, the tests run Keras with them.
"""

import re

import numpy as np
from timm_weights import VARIABLES, draw

SIZES = {"bn_inception": (224, 225), "inception_v3": (299, 160), "inception_resnet_v2": (299, 160)}

LAYER = re.compile(
    r"stage(?P<stage>\d)_(block(?P<block>\d+)|entry)_(?P<branch>\w+)_(?P<kind>conv|norm)(?P<index>\d*)"
)
KINDS = {"conv": "conv", "norm": "bn"}

BN_STEM = ("conv1_7x7_s2", "conv2_3x3_reduce", "conv2_3x3")
# A stage of ours begins with the module that halves the map, so 3c is in stage 4.
BN_MODULES = {3: ("3a", "3b"), 4: ("3c", "4a", "4b", "4c", "4d"), 5: ("4e", "5a", "5b")}
BN_CONVS = {
    "1x1": ("1x1",),
    "3x3": ("3x3_reduce", "3x3"),
    "double3x3": ("double_3x3_reduce", "double_3x3_1", "double_3x3_2"),
    "pool": ("pool_proj",),
}
V3_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
V3_MODULES = {3: ("5b", "5c", "5d"), 4: ("6a", "6b", "6c", "6d", "6e"), 5: ("7a", "7b", "7c")}
V3_BRANCHES = {
    "3x3_1x3": "3x3_2a",
    "3x3_3x1": "3x3_2b",
    "double3x3": "3x3dbl",
    "double3x3_1x3": "3x3dbl_3a",
    "double3x3_3x1": "3x3dbl_3b",
    "double7x7": "7x7dbl",
    "pool": "_pool",
}
RESNET_STEM = ("conv2d_1a", "conv2d_2a", "conv2d_2b", "conv2d_3b", "conv2d_4a")
RESNET_ENTRIES = {
    3: ("mixed_5b", ("1x1", "5x5", "double3x3", "pool")),
    4: ("mixed_6a", ("3x3", "double3x3")),
    5: ("mixed_7a", ("3x3", "narrow3x3", "double3x3")),
}
RESNET_UNITS = {3: "repeat", 4: "repeat_1", 5: "repeat_2"}
RESNET_BRANCHES = {3: ("1x1", "3x3", "double3x3"), 4: ("1x1", "7x7"), 5: ("1x1", "3x3")}


def _place(layer):
    """(stage, block or None, branch, index from 0 or None, conv or bn) in a layer's name."""
    place = LAYER.fullmatch(layer)
    block, index = (int(place[key]) if place[key] else None for key in ("block", "index"))
    index = None if index is None else index - 1
    return int(place["stage"]), block, place["branch"], index, KINDS[place["kind"]]


def bn_layer(layer):
    """Its name in pretrainedmodels' bninception."""
    if layer == "predictions":
        return "last_linear"
    if layer.startswith("stem"):
        return BN_STEM[int(layer[-1]) - 1] + ("_bn" if "norm" in layer else "")
    stage, block, branch, index, kind = _place(layer)
    conv = BN_CONVS[branch][index or 0]
    return f"inception_{BN_MODULES[stage][block - 1]}_{conv}{'_bn' if kind == 'bn' else ''}"


def v3_layer(layer):
    """Its name in timm's inception_v3."""
    if layer == "predictions":
        return "fc"
    if layer.startswith("stem"):
        return f"{V3_STEM[int(layer[-1]) - 1]}.{KINDS[layer[5:-1]]}"
    stage, block, branch, index, kind = _place(layer)
    if (stage, branch, index) == (5, "3x3", None):  # what the 1x3 and the 3x1 read
        index = 0
    step = "" if index is None else f"_{index + 1}"
    module = f"Mixed_{V3_MODULES[stage][block - 1]}"
    return f"{module}.branch{V3_BRANCHES.get(branch, branch)}{step}.{kind}"


def resnet_layer(layer):
    """Its name in timm's inception_resnet_v2."""
    if layer == "predictions":
        return "classif"
    if layer.startswith("final"):
        return f"conv2d_7b.{KINDS[layer[6:]]}"
    if layer.startswith("stem"):
        return f"{RESNET_STEM[int(layer[-1]) - 1]}.{KINDS[layer[5:-1]]}"
    stage, block, branch, index, kind = _place(layer)
    if block is None:
        module, branches = RESNET_ENTRIES[stage]
    else:
        last = (stage, block) == (5, 10)
        module = "block8" if last else f"{RESNET_UNITS[stage]}.{block - 1}"
        branches = RESNET_BRANCHES[stage]
    if branch == "expansion":
        return f"{module}.conv2d"
    index = 1 if branch == "pool" else index  # 0 is the pool
    step = "" if index is None else f".{index}"
    return f"{module}.branch{branches.index(branch)}{step}.{kind}"


LAYERS = {
    "bn_inception": bn_layer,
    "inception_v3": v3_layer,
    "inception_resnet_v2": resnet_layer,
}


def draw_inception(name, shape):
    """As `draw`; the biases that pretrainedmodels gives BN-Inception's convolutions are zero."""
    of_convolution = re.match(r"(conv|inception_)\w+(?<!_bn)\.bias$", name)
    return np.zeros(shape, "float32") if of_convolution else draw(name, shape)


def assign(model, network):
    """Assign the weights drawn for another library's network to a Keras network without SE.

    Returns upstream's name of each.
    """
    names = []
    for weight in model.weights:
        layer, *inner, variable = weight.path.split("/")
        if inner:  # a part of an SE block
            continue
        name = f"{LAYERS[network](layer)}.{VARIABLES[variable]}"
        shape = tuple(weight.shape)
        if len(shape) == 4:  # PyTorch: (out, in, height, width)
            values = draw(name, (shape[3], shape[2], *shape[:2])).transpose(2, 3, 1, 0)
        else:
            values = draw(name, shape[::-1]).T
        weight.assign(values)
        names.append(name)
    return names

"""Map pytorchcv's networks to rows of the catalog, with the sizes at which both are run."""

SMALL = ("cifar10", "cifar100", "svhn")
# Name of pytorchcv -> our row. Those of small images have projection shortcuts.
ROWS = {
    "seresnet50": "cm_seresnet50",
    "seresnet101": "cm_seresnet101",
    "seresnet152": "cm_seresnet152",
    "seresnet50b": "seresnet50",
    "seresnet101b": "seresnet101",
    "seresnext50_32x4d": "seresnext50_32x4d",
    "seresnext101_32x4d": "seresnext101_32x4d",
    "seresnext101_64x4d": "seresnext101_64x4d",
    "senet154": "senet154",
    **{
        f"seresnet{depth}_{images}": f"seresnet{depth}"
        for depth in (20, 56, 110)
        for images in SMALL
    },
}


def is_small(name):
    return name.endswith(SMALL)


def sizes(name):
    return (32, 31) if is_small(name) else (64, 97)

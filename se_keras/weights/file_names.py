"""The names of a naming scheme as one file varies them: a prefix, another classifier name."""

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import keras

from se_keras.support.errors import InputError
from se_keras.weights.identify import PossibleTraits, Shape
from se_keras.weights.key_maps import KEY_MAPS, KeyMap, Layout, TorchNames, find_key_map
from se_keras.weights.layer_order import CLASSIFIER

# Names that users and other programs give the classifier or the module around it.
HEADS = ("classifier", "fc", "head", "heads", "last_linear", "linear", "logits", "output")
# The first words of our layer names, without the classifier's.
NETWORK = frozenset({"stem", "stage#", "input", "final", "fc#"})


@dataclass(frozen=True, kw_only=True)
class FileNames:
    """The names of a naming scheme as one file has them.

    Attributes:
        scheme: the naming scheme.
        prefix: the beginning of the name of every tensor of the network.
        head: the file's name for the classifier, where it differs from the scheme's.
        adapted: path of a variable -> its layout, where it differs from the scheme's.
    """

    scheme: KeyMap
    prefix: str = ""
    head: str | None = None
    adapted: Mapping[str, Layout] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.scheme.name

    @property
    def traits(self) -> PossibleTraits:
        return self.scheme.traits

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the notes for a plan."""
        prefix = f"removed: the prefix {self.prefix!r}"
        head = f"classifier: {self.head!r} in the file"
        adapted = [f"adapted: {path} ({layout.name})" for path, layout in self.adapted.items()]
        return (*([prefix] if self.prefix else ()), *([head] if self.head else ()), *adapted)

    def names(self, model: keras.Model) -> dict[str, str | None]:
        """Return the name of the file's tensor for each path; `None` where the scheme has none."""
        names = self.scheme.names(model)
        return {path: name and self._in_file(path, name) for path, name in names.items()}

    def _in_file(self, path: str, name: str) -> str:
        if self.head is not None and path.startswith(f"{CLASSIFIER}/"):
            return f"{self.head}.{name.rpartition('.')[2]}"
        return f"{self.prefix}{name}"

    def ours(self, name: str) -> str | None:
        """Return the path of the variable for a tensor; `None` for a name of another scheme."""
        module, _, leaf = name.rpartition(".")
        if self.head is not None and module == self.head:
            return f"{CLASSIFIER}/{'bias' if leaf == 'bias' else 'kernel'}"
        own = name.removeprefix(self.prefix)
        return self.scheme.ours(own) if name == self.prefix + own else None

    def layout(self, path: str, rank: int) -> Layout:
        """Return the layout of the tensor for a variable, given its path and rank."""
        return self.adapted.get(path) or self.scheme.layout(path, rank)

    def reason_to_ignore(self, name: str, expected: Collection[str]) -> str | None:
        """Return the reason why a tensor may be ignored; `None` if it may not."""
        own = name.removeprefix(self.prefix)
        return self.scheme.reason_to_ignore(name, expected) or self.scheme.reason_to_ignore(
            own, expected
        )

    def network(self, expected: Collection[str]) -> frozenset[str]:
        """Return the first words of the names of the network's tensors, without the prefix."""
        return NETWORK | {beginning(name.removeprefix(self.prefix)) for name in expected}

    def is_outside(self, name: str, network: Collection[str]) -> bool:
        """Return whether a tensor belongs to no part of a network with these first words."""
        # Where two layers have the same name, only their place in Keras' file tells them apart.
        parts = {beginning(name), beginning(name.removeprefix(self.prefix))}
        return "/vars/" not in name and not parts & set(network)


def beginning(name: str) -> str:
    """Return the first word of a name, with `#` in place of its number.

    Example:

    >>> from se_keras.weights.file_names import beginning
    >>> beginning("layer1.0.conv1.weight"), beginning("stage2_block1_conv1/kernel")
    ('layer#', 'stage#')
    """
    return re.sub(r"\d+", "#", re.split(r"[._/]", name, maxsplit=1)[0])


def find_names(tensors: Mapping[str, Shape]) -> FileNames | None:
    """Find the naming scheme that matches most of the names; `None` if no scheme matches.

    Args:
        tensors: names and shapes of the tensors, in the order of the file.

    Raises:
        InputError: if the file holds several networks, or layers are missing from its order.

    Example:

    >>> from se_keras.weights.file_names import find_names
    >>> names = ["module.conv1.weight", "module.layer1.0.conv1.weight"]
    >>> find_names(dict.fromkeys(names, (8, 8, 3, 3))).prefix
    'module.'
    """
    prefix = _find_prefix(tensors)
    scheme = find_key_map([n.removeprefix(prefix) for n in tensors if n.startswith(prefix)])
    if scheme is None:
        return None
    return FileNames(scheme=scheme, prefix=prefix, head=_find_head(scheme, prefix, tensors))


def _find_prefix(names: Collection[str]) -> str:
    """Return the prefix that comes before the names of the stem and the first unit."""
    found = {
        name.removesuffix(stem)
        for stem, unit in _landmarks()
        for name in names
        if name.endswith(stem) and name.removesuffix(stem) + unit in names
    }
    found = {prefix for prefix in found if not prefix or prefix.endswith(".")}
    if len(found) > 1:
        places = [prefix.rstrip(".") or "no prefix" for prefix in sorted(found)]
        raise InputError(
            f"it holds several networks ({', '.join(map(repr, places))}): name one of them, as in "
            f"'FILE::{places[-1]}'."
        )
    return found.pop() if found else ""


@functools.cache
def _landmarks() -> list[tuple[str, str]]:
    """Return the kernel names of the stem and the first unit in each PyTorch scheme."""
    stems = ("stem_conv/kernel", "stem_conv1/kernel")
    return [
        (stem, unit)
        for scheme in KEY_MAPS
        if isinstance(scheme, TorchNames)
        for stem in map(scheme.theirs, stems)
        if stem and (unit := scheme.theirs("stage2_block1_conv1/kernel"))
    ]


def _find_head(scheme: KeyMap, prefix: str, tensors: Mapping[str, Shape]) -> str | None:
    """Return the name of the classifier, where it is not the scheme's name."""
    own = isinstance(scheme, TorchNames) and scheme.theirs(f"{CLASSIFIER}/kernel")
    if not own:
        return None
    module = f"{prefix}{own.rpartition('.')[0]}"
    if {f"{module}.weight", f"{module}.bias"} & tensors.keys():
        return None
    ranks: dict[str, dict[str, int]] = {}
    for name, shape in tensors.items():
        if name.removeprefix(prefix).partition(".")[0] in HEADS:
            layer, _, leaf = name.rpartition(".")
            ranks.setdefault(layer, {})[leaf] = len(shape)
    (layer, found), *others = ranks.items() or [("", {})]
    return layer if not others and found == {"weight": 2, "bias": 1} else None

"""Parse the argument `weights=` into a `WeightSource`, which all other modules use."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from se_keras.models.recipes import RECIPES, Recipe, find_recipe
from se_keras.support.arguments import did_you_mean, text_of_path
from se_keras.support.errors import InputError, shown
from se_keras.weights import hub, presets
from se_keras.weights.class_lists import LISTS, Labels, labels_of_list
from se_keras.weights.hub_config import HubConfig, read_config
from se_keras.weights.preprocessing import Pixels
from se_keras.weights.readers import READERS, Checkpoint, model_name_of_file, open_file

BEST = "imagenet"
# `file.pth::state_dict`; in an address, the text after `::` has a colon or a slash.
KEYED = re.compile(r"(?P<place>.+)::(?P<key>[^:/\\]+)", re.DOTALL)
# A model keeps its name in files, in clones and in other models, so the name holds the source. A
# name may hold no slash and few other signs; the hub allows no `--` in names.
OF_HUB = re.compile(
    r"(?P<recipe>[^.]+)\.hf--(?P<owner>[\w.-]+?)--(?P<repo>[\w.-]+?)(--(?P<revision>[\w.-]+))?",
    re.ASCII,
)


@dataclass(frozen=True, kw_only=True)
class WeightSource:
    """Published weights or a file of weights; downloaded and opened only when needed.

    Attributes:
        text: the user's name for the weights, which messages show.
        published: the published file; `None` for a file on this machine.
        path: path of a file on this machine; `None` for published weights.
        key: the set of weights within a PyTorch file, as in `file.pth::state_dict`.
        preset: the preset of published weights; `None` for other weights.
        cached_only: whether to read `config.json` only if it is on this machine already. This is
            so for a source from the name of a model, which may come from a stranger's file.
    """

    text: str
    published: hub.PublishedFile | None = None
    path: Path | None = None
    key: str | None = None
    preset: presets.Preset | None = None
    cached_only: bool = False

    def __str__(self) -> str:
        return self.text

    @contextmanager
    def open(self) -> Iterator[Checkpoint]:
        """Open the weights, and close their file at the end.

        Raises:
            InputError: if the weights can't be downloaded, are damaged or of another kind.
            MissingExtraError: for a PyTorch file without PyTorch.
        """
        path = self.path or self._fetched.path
        architecture = self.architecture
        with open_file(path, called=self.text, key=self.key, architecture=architecture) as opened:
            yield replace(opened, stranger=self._stranger)

    @cached_property
    def origin(self) -> "WeightSource | None":
        """Return the published weights, which the model's name in a `.keras` file may name."""
        if self.path is None:
            return self
        name = model_name_of_file(self.path)
        return None if name is None else split_name(name)[1]

    @cached_property
    def pixels(self) -> Pixels:
        """Return the pixels that the weights take, or unknown pixels if they are not stated.

        Raises:
            InputError: if a repository of the hub can't be reached.
        """
        if self.preset is not None:
            return self.preset.pixels
        if isinstance(self.published, hub.HubFile):
            return self._pixels_of_repository()
        if self.path is None or self.origin is None:
            return Pixels(origin="a file of weights does not state them")
        return self.origin.pixels

    def _pixels_of_repository(self) -> Pixels:
        try:
            config = self._config
        except InputError as error:
            if not self.cached_only:
                raise
            return Pixels(origin=str(error).rstrip("."))
        if config is not None:
            return config.pixels
        if self.cached_only:
            return Pixels(origin=f"its weights come from {self}; pass that source to look there")
        return Pixels(origin=f"{self} has no config.json that says how to prepare images")

    @cached_property
    def labels(self) -> Labels | None:
        """Return the identifier and name of each class; `None` if they are unknown.

        Raises:
            InputError: if a repository of the hub can't be reached.
        """
        if self.preset is not None and self.preset.pixels.labels in LISTS:
            return labels_of_list(self.preset.pixels.labels)
        if self.path is not None:
            return None if self.origin is None else self.origin.labels
        return None if self._config is None else self._config.labels

    @property
    def architecture(self) -> str | None:
        """Return the name of the network that the weights are for; `None` if it is unknown.

        Raises:
            InputError: if a repository of the hub can't be reached.
        """
        if self.preset is not None:
            return self.preset.recipe
        return None if self._config is None else self._config.architecture

    @property
    def recipe(self) -> Recipe:
        """Return the row of the catalog that the weights are for.

        Raises:
            InputError: if the network is unknown, or not in the catalog.
        """
        name = self.architecture
        if name is None:
            raise InputError(f"{self} does not name its network: give it with --model.")
        if self._stranger is not None:
            raise InputError(f"{self} can't be loaded without --model: {self._stranger}")
        return find_recipe(name)

    @property
    def _stranger(self) -> str | None:
        """Return a sentence on a network that is not in the catalog, and on who has it."""
        name, place = self.architecture, self.published
        if name is None or name in _rows() or not isinstance(place, hub.HubFile):
            return None
        if f"se{name}" in _rows():
            return f"it is for {name!r}, which is create('se{name}', se=False) here."
        address = f"hf-hub:{place.repo}" + (f"@{place.revision}" if place.revision else "")
        return (
            f"it is for {name!r}, a network that se_keras does not have. If timm has it, "
            f"timm.create_model({address!r}, pretrained=True) loads it."
            f"{did_you_mean(name, _rows())}"
        )

    def model_name(self, recipe: str) -> str | None:
        """Return a model name that contains the source of the weights.

        Args:
            recipe: name of the model's row in the catalog.

        Returns:
            The name of the set, or the row and the repository for other weights of the hub;
            `None` for a source that a name can't hold, such as a file.

        Example:

        >>> from se_keras.weights.source import parse_source
        >>> parse_source("hf://timm/seresnet50.a1_in1k@main").model_name("seresnet50")
        'seresnet50.a1_in1k'
        >>> parse_source("hf://me/flowers@v2/best.safetensors").model_name("seresnet50")
        'seresnet50.hf--me--flowers--v2'
        """
        is_own = recipe not in _rows()
        if self.preset is not None and (is_own or recipe == self.preset.recipe):
            return self.preset.name
        if self.path is not None:
            return None if self.origin is None else self.origin.model_name(recipe)
        if not isinstance(self.published, hub.HubFile):
            return None
        place = replace(self.published, file=None)
        parts = [f"{recipe}.hf", *place.repo.split("/"), place.revision]
        name = "--".join(part for part in parts if part)
        _, named = split_name(name)
        return name if named is not None and named.published == place else None

    @cached_property
    def _fetched(self) -> hub.Fetched:
        assert self.published is not None
        return hub.fetch(self.published)

    @cached_property
    def _config(self) -> HubConfig | None:
        """The `config.json` of a repository, from the same commit as weights on this machine."""
        if not isinstance(self.published, hub.HubFile):
            return None
        if "_fetched" in vars(self):
            content = self._fetched.config
        else:
            ask = hub.cached_config if self.cached_only else hub.fetch_config
            content = ask(self.published)
        return None if content is None else read_config(content, str(self.published))


Weights: TypeAlias = str | os.PathLike | WeightSource


def parse_source(
    given: Any, recipe: str | None = None, *, argument: str = "weights", others: Iterable[str] = ()
) -> WeightSource:
    """Return the weights that a user names.

    Args:
        given: `"imagenet"` for the best published weights of `recipe`; the full name of published
            weights, such as `"seresnet50.a1_in1k"`; `"hf://owner/repo[@revision][/file]"`; an
            `https://` address with a hash; the path of a file, with `~` for the home folder;
            `"file.pth::key"` for one of several sets of weights in a PyTorch file; or a
            `WeightSource`, which is returned.
        recipe: name of the network that the weights are for.
        argument: the caller's name for `given`, which errors show.
        others: other values that the caller takes; errors suggest similar ones.

    Raises:
        InputError: if `given` is none of these.

    Example:

    >>> from se_keras.weights.source import parse_source
    >>> parse_source("imagenet", "seresnet50").preset.name
    'seresnet50.ra2_in1k'
    >>> parse_source("hf://me/flowers@v2").published.revision
    'v2'
    """
    if isinstance(given, WeightSource):
        return given
    try:
        text = text_of_path(argument, given)
    except InputError:
        raise InputError(_choices(argument, given)) from None
    if isinstance(given, str):
        source = _parse_published(text, recipe, argument)
        if source is not None:
            return source
    return _parse_path(text, argument, others)


def _parse_published(text: str, recipe: str | None, argument: str) -> WeightSource | None:
    """Return the published weights that a text names; `None` if the text can only be a path."""
    if text == BEST:
        if recipe is None:
            raise InputError(
                f"`{argument}='{BEST}'` means the best published weights of a network: name the "
                "network (--model on the command line), or name the weights, such as "
                "'seresnet50.a1_in1k'."
            )
        return replace(_of_preset(presets.find_preset(recipe)), text=text)
    place, key = _split_key(text)
    preset = presets.preset_of(place)
    published = hub.parse_address(preset.source if preset else place)
    if published is None:
        return None
    if isinstance(published, hub.HubFile):
        preset = presets.preset_of(str(hub.HubFile(repo=published.repo)))
    return WeightSource(text=text, published=published, key=key, preset=preset)


def _of_preset(preset: presets.Preset) -> WeightSource:
    return WeightSource(text=preset.name, published=hub.parse_address(preset.source), preset=preset)


def _parse_path(text: str, argument: str, others: Iterable[str]) -> WeightSource:
    for place, key in dict.fromkeys([(text, None), _split_key(text)]):
        path = Path(os.path.expanduser(place))
        if os.path.isfile(path):  # unlike `Path.is_file`, it takes a name that is too long
            return WeightSource(text=text, path=path, key=key)
    if text in _rows():
        names = [preset.name for preset in presets.presets_of(text)]
        hint = f" Its published weights: {', '.join(map(repr, names))}." if names else ""
        raise InputError(f"`{argument}` must name weights, got the network {shown(text)}.{hint}")
    published = [name for row in presets.PRESETS for name in (row.name, row.source)]
    hint = did_you_mean(text, [BEST, *others, *published])
    if "://" in text:
        raise InputError(f"{_choices(argument, text)}{hint}")
    raise InputError(f"`{argument}`: there is no file {shown(text)}.{hint}")


def _split_key(text: str) -> tuple[str, str | None]:
    match = KEYED.fullmatch(text)
    return (match["place"], match["key"]) if match else (text, None)


def _choices(argument: str, given: Any) -> str:
    return (
        f"`{argument}` must be None, {BEST!r}, the name of published weights such as "
        "'seresnet50.a1_in1k', 'hf://owner/repo' or the path of a file "
        f"({', '.join(READERS)}), got {shown(given)}."
    )


def split_name(name: str) -> tuple[str, WeightSource | None]:
    """Split a model's name into the row of the catalog and the weights; `None` for no weights.

    Example:

    >>> from se_keras.weights.source import split_name
    >>> recipe, source = split_name("seresnet50.hf--me--flowers--v2")
    >>> recipe, str(source)
    ('seresnet50', 'hf://me/flowers@v2')
    >>> split_name("seresnet50")
    ('seresnet50', None)
    """
    preset = next((row for row in presets.PRESETS if row.name == name), None)
    if preset is not None:
        return preset.recipe, _of_preset(preset)
    match = OF_HUB.fullmatch(name)
    if match is None:
        return name, None
    place = hub.HubFile(repo=f"{match['owner']}/{match['repo']}", revision=match["revision"])
    return match["recipe"], WeightSource(text=str(place), published=place, cached_only=True)


def labels_named(name: str) -> Labels | None:
    """Return the classes of a known list or a repository, as `Pixels.labels` names them.

    The hub is not asked: the `config.json` of the repository was downloaded with its weights.
    """
    if name in LISTS:
        return labels_of_list(name)
    return replace(parse_source(name, argument="labels"), cached_only=True).labels


def _rows() -> list[str]:
    return [recipe.name for recipe in RECIPES]

"""Odd values for each option of each command: exit code 2 and one line that names the option."""

import argparse

import pytest
from forks import SEED
from hostile_hub import drawn

from se_keras.cli import build_parser, main

# Other arguments that a command needs; their files do not exist, so no run gets far.
BESIDES = {
    "list": [],
    "train": ["--data", "nowhere"],
    "evaluate": ["nowhere.keras"],
    "predict": ["nowhere.keras", "nowhere.png"],
    "compare": ["nowhere"],
    "explain": ["nowhere.keras", "--out", "ex"],
    "export": ["nowhere.keras"],
    "insert": ["nowhere.keras", "--out", "new.keras"],
    "count": ["nowhere.keras"],
    "convert": ["nowhere.pth", "new.keras", "--model", "seresnet20"],
}
NO_NUMBERS = (
    "nan",
    "inf",
    "-1",
    "",
    " ",
    "x",
    "1e",
    "0x10",
    "é",
    "a\nb",
    "9" * 5000,
    "\x1b[31m",
    "-inf",
)
NO_WORDS = ("", "\n", "é", "x" * 10_000, "\x1b[31m", "\udce9", "None", "../..", "%s", "{}")
TEXTS = (*NO_WORDS, "nan", "-1")


def options():
    _, commands = build_parser()
    for name, parser in commands.items():
        if name == "list":
            continue  # which asks for nothing
        for action in parser._actions:
            shows = isinstance(action, argparse._HelpAction | argparse._VersionAction)
            if action.option_strings and not shows:
                yield name, action


OPTIONS = list(options())
WITH_VALUES = [(name, action) for name, action in OPTIONS if action.nargs != 0]


def names(pairs):
    return [f"{name} {action.option_strings[-1]}" for name, action in pairs]


def refused(words, capsys):
    """The one line of a command that is refused."""
    capsys.readouterr()
    try:
        code = main(words)
    except SystemExit as error:
        code = error.code
    error = capsys.readouterr().err
    assert code == 2, (code, error)
    assert len(error.splitlines()) == 1, error
    assert "\x1b" not in error
    return error


def is_number(action):
    return action.type is not None and action.type.__name__ in ("int", "float", "numbers")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


def besides(name, option):
    """What the command needs besides an option."""
    words = list(BESIDES[name])
    if option in words:
        place = words.index(option)
        del words[place : place + 2]
    return words


def try_odd_values(name, action, count, capsys):
    option = action.option_strings[-1]
    values = NO_NUMBERS if is_number(action) else (NO_WORDS if action.choices else TEXTS)
    for value in drawn(SEED, name, option).sample(values, count):
        error = refused([name, *besides(name, option), f"{option}={value}"], capsys)
        assert error.startswith(f"se-keras {name}: ")
        # What depends on the model is checked after the model is found.
        if action.choices or (is_number(action) and (value != "-1" or name == "train")):
            assert option in error, (value, error)
        assert len(error) < 2000 + 2 * len(value) or is_number(action)


@pytest.mark.reliability
@pytest.mark.parametrize(("name", "action"), WITH_VALUES, ids=names(WITH_VALUES))
def test_an_odd_value_is_named_with_its_option(name, action, capsys):
    try_odd_values(name, action, 8, capsys)


def test_odd_values_of_some_options(capsys):
    """The slice of the default run."""
    for name, action in drawn(SEED).sample(WITH_VALUES, 10):
        try_odd_values(name, action, 1, capsys)


@pytest.mark.parametrize(("name", "action"), WITH_VALUES, ids=names(WITH_VALUES))
def test_a_value_that_is_missing_is_named(name, action, capsys):
    option = action.option_strings[-1]
    if action.nargs in ("*", "?"):
        return
    assert option in refused([name, *BESIDES[name], option], capsys)


@pytest.mark.reliability
@pytest.mark.parametrize(("name", "action"), OPTIONS, ids=names(OPTIONS))
def test_an_option_given_twice_is_as_the_second(name, action, capsys):
    """Or it is refused; no command falls over it."""
    option = action.option_strings[-1]
    words = [option, option] if action.nargs == 0 else [f"{option}=1", f"{option}="]
    refused([name, *besides(name, option), *words], capsys)


@pytest.mark.parametrize("name", BESIDES)
def test_words_that_no_command_takes_are_one_line(name, capsys):
    for word in ("--é", "--x\ny", "--" + "x" * 10_000, "--\x1b[31m", "--\udce9", "---", "-é"):
        refused([name, *BESIDES[name], word], capsys)

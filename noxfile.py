"""The tests on each Python and on the oldest packages; lint and types. Each in its environment.

nox                                         lint, types, and the tests on each Python that is found
nox -s tests-3.12 -- tests/test_layers.py   some tests on one Python
nox -s oldest                               the tests with the lower bounds of setup.cfg
"""

import configparser
from pathlib import Path

import nox

# Torch is pinned as in .ci/run; the tests use it where it is installed.
TORCH = "torch==2.13.0"
PYTEST = ("-n", "2", "--dist", "loadfile")

nox.options.sessions = ["lint", "types", "tests"]
nox.options.error_on_missing_interpreters = False


@nox.session
def lint(session: nox.Session) -> None:
    session.install("ruff")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    session.install(".[train]", "mypy")
    session.run("mypy")


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    session.install(TORCH)
    session.install(".[test]")
    session.run("pytest", *(session.posargs or PYTEST))


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    # With a newer pyparsing the oldest matplotlib warns.
    session.install(".[test]", "pyparsing<3.3", *lower_bounds())
    session.run("pytest", *(session.posargs or PYTEST))


def lower_bounds() -> list[str]:
    """Return each requirement of setup.cfg, but those of the tests themselves, at its lower bound.

    PyTorch's comes without a wheel for CPUs alone and is left out.
    """
    config = configparser.ConfigParser()
    config.read(Path(__file__).with_name("setup.cfg"), encoding="utf-8")
    extras = config["options.extras_require"]
    texts = [extras[name] for name in ("train", "tensorboard", "jax", "onnx", "openvino", "litert")]
    lines = "\n".join([config["options"]["install_requires"], *texts]).split()
    return [line.replace(">=", "==") for line in lines]

"""`optimize`, `insert_se` and `remove_se`, one after another, on keras.applications' networks.

The golden file has the reports of the smallest networks of each family;
`python tests/test_rewrite_applications.py [NAME ...]` writes them anew.
"""

import gc
import re
import sys

import keras
import numpy as np
import pytest
from checks import GOLDEN
from test_surgery import inputs_of, outputs
from test_surgery_applications import SITES, built

from se_keras import insert_se, optimize, remove_se
from se_keras.rewrite.optimize import report_optimization

REPORTS = GOLDEN / "optimization_reports.txt"
BOUND = 1e-4  # of the largest output
QUICK = ("MobileNetV3Small",)


def read_reports():
    parts = re.split(r"^# (\w+)\n", REPORTS.read_text(), flags=re.MULTILINE)[1:]
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def differences(model):
    """Return the differences of models that must be equal, relative to the largest output."""
    x = inputs_of(model)
    (expected,) = outputs(model, x)

    def difference(new, reference=expected):
        (got,) = outputs(new, x)
        return float(np.max(np.abs(got - reference)) / np.max(np.abs(reference)))

    fast = optimize(model, verbose=False)
    found = {"optimize": difference(fast)}
    (of_fast,) = outputs(fast, x)
    there = insert_se(fast, force=True)
    found["optimize, insert_se"] = difference(there, of_fast)
    found["optimize, insert_se, remove_se"] = difference(remove_se(there), of_fast)
    del fast, there
    with_se = insert_se(model, force=True)
    found["insert_se, optimize"] = difference(optimize(with_se, verbose=False))
    found["insert_se, remove_se"] = difference(remove_se(with_se))
    return found


def report_of(name):
    keras.utils.clear_session()  # Keras numbers the layers without a name
    return str(report_optimization(built(name)))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in read_reports()]
)
def test_the_report_is_the_golden_one(name):
    assert report_of(name).splitlines() == read_reports()[name].splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("name", SITES)
def test_a_network_computes_the_same_through_all_rewrites(name):
    found = differences(built(name))
    for exact in ("optimize, insert_se", "optimize, insert_se, remove_se", "insert_se, remove_se"):
        assert found.pop(exact) == 0
    assert list(found) == ["optimize", "insert_se, optimize"]
    assert max(found.values()) <= BOUND


def main():
    reports = read_reports()
    names = sys.argv[1:] or reports
    for name in names:
        reports[name] = report_of(name)
        gc.collect()
    lines = [f"# {name}\n\n{reports[name]}\n" for name in SITES if name in reports]
    REPORTS.write_text("\n".join(lines))


if __name__ == "__main__":
    main()

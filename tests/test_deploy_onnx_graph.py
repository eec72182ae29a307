"""deploy.onnx_graph: which gates are spread, and that every machine writes the same file."""

import sys

import keras
import numpy as np
import onnx
import onnx.reference
import pytest
from checks import run_python, set_random_weights
from onnx import TensorProto, helper, numpy_helper

import se_keras
from se_keras.deploy.onnx_graph import join_hard_sigmoids, number_names, spread_gates


def block(channels, hidden, groups=1, gate="Sigmoid", before=None):
    """Build a convolution, perhaps with its maximum added or multiplied, and a gate on its map."""
    constants, nodes, rng = [], [], np.random.default_rng(0)

    def add(kind, *inputs, kernel=None, **options):
        if kernel is not None:
            values = rng.uniform(-1, 1, kernel).astype("float32")
            constants.append(numpy_helper.from_array(values, f"kernel{len(nodes)}"))
            inputs += (constants[-1].name,)
        nodes.append(helper.make_node(kind, inputs, [f"{kind}{len(nodes)}"], **options))
        return nodes[-1].output[0]

    kernel = (channels, channels // groups, 3, 3)
    x = add("Conv", "image", kernel=kernel, group=groups, pads=[1, 1, 1, 1])
    if before is not None:
        x = add(before, x, add("GlobalMaxPool", x))
    z = add("GlobalAveragePool", x)
    z = add("Relu", add("Conv", z, kernel=(hidden, channels, 1, 1)))
    z = add(gate, add("Conv", z, kernel=(channels, hidden, 1, 1)))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, 6, 6])
        for name in ("image", add("Mul", x, z))
    ]
    graph = helper.make_graph(nodes, "block", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model, folder=None):
    """Return the output, and the kinds of nodes in ONNX Runtime's version of the model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    shape = [2, *session.get_inputs()[0].shape[1:]]
    image = np.random.default_rng(1).uniform(-1, 1, shape).astype("float32")
    optimized = onnx.load(options.optimized_model_filepath)
    return session.run(None, {"image": image})[0], [n.op_type for n in optimized.graph.node]


@pytest.mark.parametrize(
    ("options", "spread"),
    [
        ({"channels": 32, "hidden": 8}, True),
        ({"channels": 32, "hidden": 2}, True),
        ({"channels": 48, "hidden": 12, "gate": "Tanh"}, True),
        ({"channels": 32, "hidden": 8, "groups": 32}, True),
        ({"channels": 64, "hidden": 8, "groups": 4}, True),
        ({"channels": 64, "hidden": 8, "groups": 8}, False),  # of 8 channels each: AVX2 alone
        ({"channels": 32, "hidden": 10}, False),  # a whole step with AVX-512 alone
        ({"channels": 32, "hidden": 18}, False),
        ({"channels": 32, "hidden": 8, "gate": "HardSigmoid"}, True),
        ({"channels": 32, "hidden": 8, "gate": "Softmax"}, False),
        ({"channels": 32, "hidden": 8, "before": "Add"}, False),  # of two shapes: no such kernel
    ],
)
def test_a_gate_is_spread_where_every_cpu_keeps_the_blocked_layout(options, spread, tmp_path):
    model = block(**options)
    expected, before = run(model, tmp_path)
    spread_gates(model)
    assert [n.op_type for n in model.graph.node].count("Resize") == spread
    got, after = run(model, tmp_path)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert "Resize" not in after  # it stands in the blocked layout, where its name is another
    if "ReorderOutput" in before:  # this CPU has that layout
        assert after.count("Upsample") == spread
        assert (after.count("ReorderOutput") < before.count("ReorderOutput")) == spread


@pytest.mark.parametrize("sixth", [1 / 6, 0.2])
def test_a_hard_sigmoid_becomes_one_operator(sixth):
    numbers = {"three": 3.0, "zero": 0.0, "six": 6.0, "sixth": sixth}
    nodes = [
        helper.make_node("Add", ["x", "three"], ["moved"]),
        helper.make_node("Clip", ["moved", "zero", "six"], ["clipped"]),
        helper.make_node("Mul", ["clipped", "sixth"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [9]) for name in "xy"]
    constants = [numpy_helper.from_array(np.float32(n), name) for name, n in numbers.items()]
    graph = helper.make_graph(nodes, "gate", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    join_hard_sigmoids(model)
    joined = [node.op_type for node in model.graph.node] == ["HardSigmoid"]
    assert joined == (sixth == 1 / 6)
    x = np.linspace(-5, 5, 9, dtype="float32")
    (y,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(y, np.clip(x + 3, 0, 6) * sixth, rtol=1e-6, atol=1e-7)


def test_no_machine_is_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model = block(channels=32, hidden=8)
    spread_gates(model)
    assert "Resize" in [node.op_type for node in model.graph.node]


EXPORT = """
import hashlib, sys
import keras, se_keras
se_keras.export(keras.saving.load_model(sys.argv[1]), sys.argv[2], "onnx")
print(hashlib.sha256(open(sys.argv[2], "rb").read()).hexdigest())
"""


@pytest.mark.slow
def test_processes_with_other_instructions_write_the_same_bytes(tmp_path, monkeypatch):
    """Python's hashes of strings and the instructions that TensorFlow uses differ."""
    model = se_keras.create("seresnet20", input_shape=(32, 32, 3), classes=10)
    set_random_weights(model)
    for weight in model.weights:  # equal constants, of which tf2onnx keeps any
        if weight.name in ("bias", "beta", "moving_mean"):
            weight.assign(keras.ops.full(weight.shape, 0.25))
    model.save(tmp_path / "model.keras")
    digests = set()
    for seed, (name, value) in enumerate(
        [("TF_ENABLE_ONEDNN_OPTS", "0"), ("ONEDNN_MAX_CPU_ISA", "SSE41")]
    ):
        with monkeypatch.context() as patch:
            patch.setenv("PYTHONHASHSEED", str(seed + 1))
            patch.setenv(name, value)
            printed = run_python(EXPORT, tmp_path / "model.keras", tmp_path / f"{seed}.onnx")
        digests.add(printed.split()[-1])
    assert len(digests) == 1


def test_generated_names_are_numbered_by_their_nodes():
    """tf2onnx's numbers, and its choice of equal constants, differ; names of users stay."""
    graphs = []
    for first, second in (("390", "392"), ("17", "4")):
        nodes = [
            helper.make_node("Relu", ["image__3"], [f"a__{first}:0"], name=f"a__{first}"),
            helper.make_node("Add", [f"a__{first}:0", f"conv{second}:0"], ["out__1"]),
        ]
        ends = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("image__3", "out__1")
        ]
        constant = numpy_helper.from_array(np.ones(1, "float32"), f"conv{second}:0")
        model = helper.make_model(helper.make_graph(nodes, "graph", ends[:1], ends[1:], [constant]))
        number_names(model)
        onnx.checker.check_model(model)
        graphs.append(model)
    assert graphs[0] == graphs[1]
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == [
        "image__3",
        "out__1",
    ]

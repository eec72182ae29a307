"""Rules for TensorFlow and OpenVINO: vectors in place of maps, with equal outputs."""

import keras
import pytest
from checks import array, set_random_weights, uniform
from keras import layers

import se_keras
from se_keras.deploy.targets import find_target
from se_keras.deploy.to_saved_model import write_saved_model
from se_keras.graph import trace
from se_keras.rewrite.lowering import LOWERINGS
from se_keras.rewrite.optimize import OPENVINO_RULES, RULES, TENSORFLOW_RULES, rewrite

POSITIONS = "single position"


@keras.saving.register_keras_serializable("test_rewrite_vectors")
def softmax_of_axis_3(u):
    return keras.ops.softmax(u, axis=3)


def for_tensorflow(model, *inputs):
    """Return the model by the rules for TensorFlow, and the rule's steps; check the outputs."""
    return by_rules(TENSORFLOW_RULES, model, *inputs)


def by_rules(rules, model, *inputs):
    graph = trace(model)
    steps = [step for step in rewrite(graph, rules).steps if step.rule == rules[-1].name]
    new = graph.build()
    assert new.output_names == model.output_names
    given = list(inputs) if len(inputs) > 1 else inputs[0]
    for one, other in zip(
        keras.tree.flatten(model(given)), keras.tree.flatten(new(given)), strict=True
    ):
        assert abs(array(one) - array(other)).max() <= 1e-5 * abs(array(one)).max()
    return new, steps


def on_one_position(new):
    """Return the names of the layers with weights that take a map with a single position."""
    return [
        node.name
        for _, graph in trace(new).graphs()
        for node in graph.nodes
        if getattr(node.op, "weights", ()) and {*node.inputs[0].shape[1:-1]} == {1}
    ]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_se_becomes_products_of_matrices(rank):
    x = keras.Input((*(6, 5, 4)[:rank], 8))
    model = keras.Model(x, se_keras.SqueezeExcite(ratio=4, name="se")(x))
    set_random_weights(model)
    new, steps = for_tensorflow(model, uniform((3, *x.shape[1:])))
    assert [step.layer for step in steps if step.done] == ["se_reduce", "se_expand"]
    assert on_one_position(new) == []
    (pool,) = (layer for layer in new.layers if "Pooling" in type(layer).__name__)
    assert not pool.keepdims
    assert sum(type(layer) is layers.Reshape for layer in new.layers) == 1


@pytest.mark.parametrize("kind", LOWERINGS)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_every_kind_of_gate_gives_equal_outputs(kind, data_format):
    x = keras.Input((6, 6, 8) if data_format == "channels_last" else (8, 6, 6))
    model = keras.Model(x, kind(data_format=data_format)(x))
    set_random_weights(model)
    new, _ = for_tensorflow(model, uniform((2, *x.shape[1:])))
    assert on_one_position(new) == []


def test_dense_layers_activations_and_a_shared_pool():
    x = keras.Input((4, 4, 6))
    z = layers.GlobalAveragePooling2D(keepdims=True)(x)
    s = layers.Dense(3, use_bias=False)(z)
    s = layers.Conv2D(6, 1, activation="softmax")(layers.ReLU()(s))
    model = keras.Model(x, [layers.Multiply()([x, s]), layers.Add()([x, z])])
    set_random_weights(model)
    new, steps = for_tensorflow(model, uniform((2, 4, 4, 6)))
    assert len(steps) == 2
    assert on_one_position(new) == []
    # A second pool would read the map again.
    assert sum("Pooling" in type(layer).__name__ for layer in new.layers) == 1


def test_a_layer_that_is_called_twice():
    x, y = keras.Input((1, 1, 4)), keras.Input((1, 1, 4))
    conv = layers.Conv2D(4, 1)
    model = keras.Model([x, y], layers.Add()([conv(conv(x)), conv(y)]))
    set_random_weights(model)
    new, steps = for_tensorflow(model, uniform((2, 1, 1, 4)), uniform((2, 1, 1, 4), seed=1))
    assert len(steps) == 3
    assert on_one_position(new) == []


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (layers.Conv2D(4, 1, activation=softmax_of_axis_3), (1, 1, 4), "axes"),
        (layers.Conv2D(4, 3, padding="same"), (1, 1, 4), None),
        (layers.Conv2D(4, 1, groups=2), (1, 1, 4), None),
        (layers.Conv2D(4, 1), (None, None, 4), None),
        (layers.Conv2D(4, 1), (2, 1, 4), None),
        (layers.Dense(4), (4,), None),
    ],
)
def test_what_is_left_alone(layer, shape, reason):
    x = keras.Input(shape)
    model = keras.Model(x, layers.ReLU()(layer(x)))
    set_random_weights(model)
    new, steps = for_tensorflow(model, uniform((2, *(size or 3 for size in shape))))
    assert [type(made) for made in new.layers] == [type(made) for made in model.layers]
    assert [reason in step.text and not step.done for step in steps] == [True] * bool(reason)


def test_an_output_keeps_its_name():
    x = keras.Input((4, 4, 6))
    z = layers.Conv2D(2, 1, name="scores")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    _, steps = for_tensorflow(keras.Model(x, z), uniform((2, 4, 4, 6)))
    assert ["output" in step.text for step in steps] == [True]


def test_pools_give_vectors_for_openvino():
    x = keras.Input((6, 5, 8))
    y = se_keras.SqueezeExcite(ratio=4, name="se")(x)
    z = layers.GlobalMaxPooling2D(keepdims=True, name="peaks")(y)
    last = layers.GlobalAveragePooling2D(keepdims=True, name="mean")(y)
    model = keras.Model(x, [layers.Add()([y, z]), layers.Flatten()(z), last])
    set_random_weights(model)
    new, steps = by_rules(OPENVINO_RULES, model, uniform((2, 6, 5, 8)))
    found = {step.layer: step.done for step in steps}
    assert found == {"se_squeeze": True, "peaks": True, "mean": False}
    kept = {layer.name for layer in new.layers if getattr(layer, "keepdims", False)}
    assert kept == {"mean"}  # whose name is the name of the output


@pytest.mark.parametrize(("rules", "products"), [(RULES, 1), (TENSORFLOW_RULES, 1 + 9 * 2)])
def test_a_file_for_tensorflow_has_products_of_matrices(tmp_path, rules, products):
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    graph = trace(se_keras.create("seresnet20"))
    rewrite(graph, rules)
    write_saved_model(graph.build(), tmp_path / "served")
    file = SavedModel.FromString((tmp_path / "served/saved_model.pb").read_bytes())
    functions = file.meta_graphs[0].graph_def.library.function
    counts = [[node.op for node in f.node_def].count("MatMul") for f in functions]
    assert max(counts) == products


def test_only_tensorflow_has_the_rule():
    for format, precision, has in [
        ("tf_saved_model", "float32", True),
        ("tf_saved_model", "bfloat16", True),
        ("litert", "float32", False),
        ("onnx", "float32", False),
        ("openvino", "int8", False),
    ]:
        names = [rule.name for rule in find_target(format, precision).rules]
        assert (POSITIONS in names) is has

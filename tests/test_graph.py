"""graph.py: compare traced graphs with graphs drawn by hand, and rebuilt models with originals."""

import keras
import numpy as np
import pytest
from checks import POLICIES, array, set_random_weights, uniform

from se_keras import SqueezeExcite, create
from se_keras.graph import is_functional, trace


@keras.saving.register_keras_serializable(package="test_graph")
class Scale(keras.layers.Layer):
    """A layer as users write it: a weight, no shape function."""

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gamma")

    def call(self, x):
        return x * self.gamma


@keras.saving.register_keras_serializable(package="test_graph")
class TwoParts(keras.layers.Layer):
    """Layers inside a layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv2D(4, 3, padding="same", name="conv")
        self.norm = keras.layers.BatchNormalization(name="norm")

    def build(self, input_shape):
        self.conv.build(input_shape)
        self.norm.build((*input_shape[:-1], 4))

    def call(self, x):
        return self.norm(self.conv(x))


class WithTrainStep(keras.Model):
    """A user's functional model with a class of its own."""

    def double(self, x):
        return 2 * self(x)


class OwnArguments(keras.Model):
    """A backbone as in KerasHub: functional inside, with arguments of its own."""

    def __init__(self, width, **kwargs):
        x = keras.Input((6,), name="features")
        super().__init__(inputs=x, outputs=keras.layers.Dense(width, name="wide")(x), **kwargs)
        self.width = width

    def get_config(self):
        return {"width": self.width}


class Subclassed(keras.Model):
    def call(self, x):
        return x


# --- models of every shape that a functional model can have ---------------------------------------


def residual():
    x = keras.Input((8, 8, 4), name="image")
    y = keras.layers.Conv2D(4, 3, padding="same", name="conv")(x)
    y = keras.layers.BatchNormalization(name="norm")(y)
    y = keras.layers.Add(name="add")([y, x])
    return keras.Model(x, keras.layers.ReLU(name="relu")(y), name="residual")


def sequential():
    layers = [keras.Input((8, 8, 3), name="image"), keras.layers.Conv2D(4, 3, name="conv")]
    return keras.Sequential([*layers, keras.layers.ReLU(name="relu")], name="chain")


def shared_layer():
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    dense = keras.layers.Dense(6, name="dense")
    y = dense(keras.layers.ReLU(name="relu")(dense(a)))
    return keras.Model([a, b], keras.layers.Subtract(name="subtract")([y, dense(b)]))


def operations():
    x = keras.Input((5, 4), name="x")
    y = keras.ops.mean(x, axis=(1,), keepdims=True) + x * np.full((4,), 0.5, "float32")
    first, second = keras.ops.split(y, 2, axis=-1)
    return keras.Model(x, [keras.ops.relu(first[:, 1:]), 1.0 - second], name="operations")


def dictionaries():
    inputs = {name: keras.Input((4,), name=name) for name in ("z", "a")}
    y = keras.layers.Dense(3, name="dense")(inputs["z"])
    return keras.Model(inputs, {"sum": y + 1.0, "input": inputs["a"]}, name="dictionaries")


def attention():
    q, v = keras.Input((5, 8), name="q"), keras.Input((7, 8), name="v")
    layer = keras.layers.MultiHeadAttention(2, 4, name="attention")
    y, scores = layer(q, value=v, return_attention_scores=True)
    return keras.Model([q, v], [y, scores], name="attending")


def masked():
    x = keras.Input((6,), dtype="int32", name="tokens")
    y = keras.layers.Embedding(9, 4, mask_zero=True, name="embedding")(x)
    return keras.Model(x, keras.layers.LSTM(3, name="lstm")(y), name="masked")


def nested():
    x, other = keras.Input((8, 8, 3), name="x"), keras.Input((8, 8, 3), name="other")
    backbone = keras.Model(*_backbone(), name="backbone")
    head = keras.Sequential([keras.layers.Dense(2, name="logits")], name="head")
    y = keras.layers.Subtract(name="difference")([backbone(x), backbone(other, training=False)])
    return keras.Model([x, other], head(y), name="siamese")


def _backbone():
    x = keras.Input((None, None, 3), name="image")
    y = keras.layers.Conv2D(4, 3, padding="same", name="conv")(x)
    inner = keras.Sequential(
        [keras.layers.BatchNormalization(name="norm"), keras.layers.ReLU(name="relu")], name="inner"
    )
    return x, keras.layers.GlobalAveragePooling2D(name="pool")(inner(y))


def custom_layers():
    x = keras.Input((6, 6, 3), name="image")
    y = SqueezeExcite(2, name="se")(TwoParts(name="parts")(x))
    return keras.Model(x, Scale(name="scale")(y), name="custom")


def several_outputs_one_of_them_inside():
    x = keras.Input((6,), name="x")
    a = keras.layers.Dense(4, name="a")(x)
    return keras.Model(x, [a, keras.layers.Dense(2, name="b")(a), a], name="outputs")


def unused_input():
    x, unused = keras.Input((3,), name="x"), keras.Input((2,), name="unused")
    return keras.Model([x, unused], keras.layers.Dense(2, name="dense")(x), name="unused_input")


def cut_out():
    """A model that is cut out of the middle of another one."""
    whole = residual()
    return keras.Model(whole.get_layer("add").output, whole.output, name="cut_out")


MODELS = [
    residual,
    sequential,
    shared_layer,
    operations,
    dictionaries,
    attention,
    masked,
    nested,
    custom_layers,
    several_outputs_one_of_them_inside,
    unused_input,
    cut_out,
]


def batch_for(model, seed=0):
    """Random inputs in the structure that the model takes."""
    rng = np.random.default_rng(seed)

    def values(tensor):
        shape = (2, *(size or 8 for size in tensor.shape[1:]))
        if "int" in tensor.dtype:
            return rng.integers(0, 9, shape)
        return rng.uniform(-1, 1, shape).astype("float32")

    if isinstance(model, keras.Sequential):
        return values(model.inputs[0])
    return keras.tree.map_structure(values, model.input)


def arrays(structure):
    return keras.tree.map_structure(array, structure)


def assert_equal(a, b):
    keras.tree.assert_same_structure(a, b)
    for left, right in zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True):
        np.testing.assert_array_equal(left, right)


def drawing(graph):
    """{name of a node: names of the nodes that it takes}."""
    return {n.name: [graph.producer(t).name for t in n.inputs] for n in graph.nodes}


# --- reading --------------------------------------------------------------------------------------


def test_nodes_and_edges_of_a_residual_unit():
    graph = trace(residual())
    assert drawing(graph) == {
        "image": [],
        "conv": ["image"],
        "norm": ["conv"],
        "add": ["norm", "image"],
        "relu": ["add"],
    }
    image = graph.find("image").output
    assert [node.name for node in graph.consumers(image)] == ["conv", "add"]
    assert graph.sole_consumer(image) is None
    assert graph.sole_consumer(graph.find("conv").output) is graph.find("norm")
    last = graph.find("relu").output
    assert graph.is_output(last)
    assert graph.consumers(last) == []
    assert not graph.is_output(image)


def test_an_output_that_is_also_consumed_has_no_sole_consumer():
    graph = trace(several_outputs_one_of_them_inside())
    assert graph.consumers(graph.find("a").output) == [graph.find("b")]
    assert graph.sole_consumer(graph.find("a").output) is None


def test_each_call_of_a_shared_layer_is_a_node():
    graph = trace(shared_layer())
    calls = [node for node in graph.nodes if node.op.name == "dense"]
    assert sorted(node.name for node in calls) == ["dense", "dense#2", "dense#3"]
    assert len({node.op for node in calls}) == 1
    by_name = drawing(graph)
    second_of_a = next(name for name, inputs in by_name.items() if inputs == ["relu"])
    (first_of_a,) = by_name["relu"]
    assert by_name[first_of_a] == ["a"]
    subtract = by_name["subtract"]
    assert subtract[0] == second_of_a
    assert by_name[subtract[1]] == ["b"]


def test_operations_outputs_and_constants():
    graph = trace(operations())
    kinds = [type(node.op).__name__ for node in graph.nodes]
    assert kinds.count("Split") == 1
    split = next(node for node in graph.nodes if type(node.op).__name__ == "Split")
    assert [tuple(t.shape) for t in split.outputs] == [(None, 5, 2), (None, 5, 2)]
    product = next(node for node in graph.nodes if type(node.op).__name__ == "Multiply")
    constants = [a for a in product.args if not isinstance(a, keras.KerasTensor)]
    np.testing.assert_array_equal(constants[0], np.full((4,), 0.5))


def test_arguments_by_keyword_are_inputs():
    node = trace(attention()).find("attention")
    assert [tuple(t.shape) for t in node.inputs] == [(None, 5, 8), (None, 7, 8)]
    assert node.kwargs["return_attention_scores"] is True


def test_nested_models_have_one_graph_for_all_calls():
    graph = trace(nested())
    first, second = graph.find("backbone"), graph.find("backbone#2")
    assert first.subgraph is second.subgraph
    assert {first.kwargs.get("training"), second.kwargs.get("training")} == {None, False}
    assert [path for path, _ in graph.graphs()] == ["", "backbone/", "backbone/inner/", "head/"]
    assert [n.name for n in first.subgraph.nodes] == ["image", "conv", "inner", "pool"]


def test_the_calls_of_a_class_are_found_in_nested_models_too():
    graph = trace(nested())
    found = [(path, node.name) for path, _, node in graph.calls(keras.layers.Conv2D)]
    assert found == [("backbone/", "conv")]
    models = [path + node.name for path, _, node in graph.calls(keras.Model)]
    assert models == ["backbone", "backbone#2", "head", "backbone/inner"]
    assert all(node in inner for _, inner, node in graph.calls(keras.layers.Layer))


def test_the_table_shows_every_node_with_its_path():
    lines = str(trace(nested())).splitlines()
    assert lines[0].split() == ["node", "operation", "output", "inputs"]
    names = [line.split()[0] for line in lines[1:]]
    assert "backbone/inner/norm" in names
    assert "head/logits" in names
    assert len(names) == len(set(names)) == 6 + 4 + 3 + 2


def test_shapes_are_those_of_the_image_that_is_asked_for():
    model = create("semobilenet", include_top=False)
    graph = trace(model)
    shapes = graph.shapes([(None, 96, 64, 3)])
    assert shapes[graph.find("stem_conv").output] == (None, 48, 32, 32)
    assert shapes[model.output] == (None, 3, 2, 1024)
    assert model.output.shape == (None, None, None, 1024)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a layer of raw TensorFlow")
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_shapes_of_a_layer_that_only_its_own_call_knows(policy):
    # Weights are float32 under a mixed policy, and TensorFlow multiplies no float32 by a float16.
    import tensorflow as tf

    class RawScale(Scale):
        def call(self, x):
            return tf.multiply(x, tf.convert_to_tensor(self.gamma))

    keras.config.set_dtype_policy(policy)
    x = keras.Input((None, None, 3))
    model = keras.Model(x, RawScale()(keras.layers.Conv2D(4, 3)(x)))
    assert trace(model).shapes([(None, 9, 7, 3)])[model.output] == (None, 7, 5, 4)


def test_shapes_inside_a_nested_model_that_takes_a_dictionary():
    # Dictionaries are sorted by name when they are flattened, lists are not.
    z, a = keras.Input((None, 2), name="z"), keras.Input((None, 3), name="a")
    inner = keras.Model([z, a], [keras.layers.Conv1D(4, 1)(z), keras.layers.ReLU()(a)])
    z, a = keras.Input((None, 2), name="z"), keras.Input((None, 3), name="a")
    model = keras.Model([z, a], inner({"a": a, "z": z}))
    shapes = trace(model).shapes([(None, 5, 2), (None, 7, 3)])
    assert [shapes[t] for t in model.outputs] == [(None, 5, 4), (None, 7, 3)]


@pytest.mark.parametrize(
    "model",
    [Subclassed, lambda: keras.Sequential([keras.layers.Dense(2)]), lambda: keras.layers.Dense(2)],
    ids=["subclassed", "not built", "layer"],
)
def test_what_is_not_functional_is_refused(model):
    with pytest.raises(ValueError, match=r"^`model` must be a functional model .* got (S|D)"):
        trace(model())


def test_a_functional_model_that_overrides_call_is_refused():
    class Odd(keras.Model):
        def call(self, x):
            return -super().call(x)

    x = keras.Input((2,))
    model = Odd(x, keras.layers.ReLU()(x))
    assert not is_functional(model)
    with pytest.raises(ValueError, match="got Odd"):
        trace(model)


def test_the_private_parts_of_keras_that_the_graph_rests_on():
    # When this fails Keras has changed; `_records` and `_copy_state` are the places to mend.
    x = keras.Input((2,))
    dense = keras.layers.Dense(3)
    by_depth = keras.Function(x, dense(x))._nodes_by_depth
    (record,) = by_depth[0]
    assert record.operation is dense
    assert record.arguments.args == (x,)
    assert record.arguments.kwargs == {}
    assert [tuple(output.shape) for output in record.outputs] == [(None, 3)]
    assert by_depth[1][0].outputs[0] is x
    parts = TwoParts()
    assert parts._flatten_layers() == [parts, parts.conv, parts.norm]


def test_a_name_that_is_not_there():
    with pytest.raises(ValueError, match="name of a node of 'residual', got 'conv9'"):
        trace(residual()).find("conv9")


# --- building -------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_rebuilt_it_is_the_same_model_with_weights_of_its_own(build, training):
    model = build()
    set_random_weights(model)
    x = batch_for(model)
    inputs, outputs = list(model.inputs), list(model.outputs)
    layer_outputs = [getattr(layer, "output", None) for layer in model.layers]
    expected = arrays(model(x))
    config = model.get_config()

    new = trace(model).build()

    assert type(new) is type(model)
    assert new.name == model.name
    assert [layer.name for layer in new.layers] == [layer.name for layer in model.layers]
    assert [w.path for w in new.weights] == [w.path for w in model.weights]
    assert {id(w) for w in new.weights}.isdisjoint(id(w) for w in model.weights)
    assert_equal(arrays(new(x)), expected)
    # The original keeps its tensors and its config, whatever happens to the new one.
    assert all(a is b for a, b in zip(model.inputs, inputs, strict=True))
    assert all(a is b for a, b in zip(model.outputs, outputs, strict=True))
    assert all(
        layer.output is output or output is None or isinstance(output, list)
        for layer, output in zip(model.layers, layer_outputs, strict=True)
    )
    assert model.get_config() == config
    assert_equal(arrays(new(x, training=training)), arrays(model(x, training=training)))
    set_random_weights(new, seed=1)
    if not training:  # in training the moving statistics moved
        assert_equal(arrays(model(x)), expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_dtype_policies_are_kept(policy):
    keras.config.set_dtype_policy(policy)
    model = custom_layers()
    keras.config.set_dtype_policy("float32")
    new = trace(model).build()
    assert [layer.dtype_policy.name for layer in new.layers[1:]] == [policy] * 3
    assert new.input.dtype == model.input.dtype
    x = batch_for(model)
    assert_equal(arrays(new(x)), arrays(model(x)))


def test_trainable_flags_are_kept_on_every_level():
    model = custom_layers()
    model.get_layer("parts").norm.trainable = False
    model.get_layer("se").trainable = False
    model.get_layer("scale").gamma.trainable = False
    new = trace(model).build()
    assert [w.path for w in new.trainable_weights] == [w.path for w in model.trainable_weights]
    assert len(new.trainable_weights) == 2  # kernel and bias of parts.conv
    assert not new.get_layer("parts").norm.trainable  # and so in inference mode
    assert new.get_layer("parts").conv.trainable


def test_trainable_flags_of_nested_models_are_kept():
    model = nested()
    model.get_layer("backbone").trainable = False
    model.get_layer("backbone").get_layer("conv").trainable = True
    flags = {"": True, "backbone": False, "conv": True, "inner": False, "norm": False}
    new = trace(model).build()
    assert flags.items() <= {"": new.trainable, **trainable_flags(new)}.items()
    model.trainable = False
    model.get_layer("head").trainable = True
    new = trace(model).build()
    assert (new.trainable, new.get_layer("head").trainable) == (False, True)
    assert trainable_flags(new) == trainable_flags(model)


def trainable_flags(model):
    flags = {layer.name: layer.trainable for layer in model.layers if layer.weights}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            flags.update(trainable_flags(layer))
    return flags


def test_nested_models_stay_nested_and_shared():
    new = trace(nested()).build()
    backbone = new.get_layer("backbone")
    assert type(backbone.get_layer("inner")) is keras.Sequential
    assert [layer.name for layer in new.layers if isinstance(layer, keras.Model)] == [
        "backbone",
        "head",
    ]
    assert len(new.weights) == 2 + 4 + 2


def test_random_seeds_go_along():
    x = keras.Input((50,))
    model = keras.Model(x, keras.layers.Dropout(0.5)(x))
    new = trace(model).build()
    ones = np.ones((1, 50), "float32")
    assert_equal(array(new(ones, training=True)), array(model(ones, training=True)))


def test_state_beside_the_weights_goes_along():
    normalize = keras.layers.Normalization(name="normalize")
    normalize.adapt(np.array([[0.0], [10.0]], "float32"))
    x = keras.Input((1,))
    model = keras.Model(x, normalize(x))
    new = trace(model).build()
    # Mean 5 and standard deviation 5 of what it was adapted to.
    np.testing.assert_allclose(array(new(np.array([[15.0]], "float32"))), [[2.0]], rtol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="strings need TensorFlow")
def test_a_vocabulary_goes_along():
    lookup = keras.layers.StringLookup(name="lookup")
    lookup.adapt(["cat", "dog", "dog"])
    x = keras.Input((1,), dtype="string")
    model = keras.Model(x, lookup(x))
    new = trace(model).build()
    assert new.get_layer("lookup").get_vocabulary() == ["[UNK]", "dog", "cat"]


def test_a_class_that_takes_inputs_and_outputs_is_kept():
    x = keras.Input((4,))
    model = WithTrainStep(x, keras.layers.Dense(2)(x))
    new = trace(model).build()
    ones = np.ones((1, 4), "float32")
    assert type(new) is WithTrainStep
    np.testing.assert_array_equal(array(new.double(ones)), 2 * array(model(ones)))


def test_a_class_with_arguments_of_its_own_becomes_a_plain_model():
    model = OwnArguments(5, name="backbone")
    new = trace(model).build()
    assert type(new) is type(keras.Model(model.input, model.output))
    x = uniform((2, 6))
    assert_equal(array(new(x)), array(model(x)))


def test_a_compiled_model_with_an_unregistered_loss():
    model = residual()
    model.compile(loss=lambda y, p: keras.ops.mean((y - p) ** 2))
    assert not trace(model).build().compiled


def test_the_new_model_saves_and_loads(tmp_path):
    new = trace(nested()).build()
    new.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = batch_for(new)
    assert_equal(arrays(loaded(x)), arrays(new(x)))


def test_training_the_new_model_leaves_the_original():
    model = residual()
    x = uniform((4, 8, 8, 4))
    expected = array(model(x))
    new = trace(model).build()
    new.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    new.fit(x, np.zeros_like(x), epochs=1, verbose=0)
    assert_equal(array(model(x)), expected)
    assert np.abs(array(new(x)) - expected).max() > 1e-3


def test_layers_that_share_a_weight_are_refused():
    x = keras.Input((4,))
    a, b = keras.layers.Dense(4, name="a"), keras.layers.Dense(4, name="b")
    y = b(a(x))
    b.kernel.assign(a.kernel)
    tied = keras.layers.TimeDistributed(a, name="tied")
    outer = keras.Model(x, [y, tied(keras.ops.expand_dims(y, 1))])
    with pytest.raises(ValueError, match=r"'a' and 'tied' share the weight 'kernel'"):
        trace(outer).build()


def test_a_layer_without_a_config_is_refused_by_name():
    class Stubborn(keras.layers.Layer):
        def __init__(self, thing, **kwargs):
            super().__init__(**kwargs)
            self.thing = thing

        def call(self, x):
            return x

    x = keras.Input((4,))
    model = keras.Model(x, Stubborn(object(), name="stubborn")(x))
    with pytest.raises(ValueError, match=r"'stubborn' \(Stubborn\) can't be recreated"):
        trace(model).build()


def test_a_layer_whose_config_gives_other_weights_is_refused():
    class Forgetful(keras.layers.Dense):
        def get_config(self):
            return {**super().get_config(), "units": 3}

    x = keras.Input((4,))
    model = keras.Model(x, Forgetful(5, name="forgetful")(x))
    with pytest.raises(ValueError, match=r"'forgetful' .* must have .*, got .* weights \(4, 3\)'"):
        trace(model).build()


# --- editing --------------------------------------------------------------------------------------


def test_insert_after_a_tensor_reaches_all_its_consumers():
    model = residual()
    graph = trace(model)
    graph.insert(keras.layers.Rescaling(2.0, name="double"), graph.find("image").output)
    assert drawing(graph)["conv"] == ["double"]
    assert drawing(graph)["add"] == ["norm", "double"]
    x = uniform((2, 8, 8, 4))
    assert_equal(array(graph.build()(x)), array(model(2 * x)))


def test_insert_for_one_consumer_only():
    model = residual()
    model.get_layer("norm").gamma.assign(np.zeros(4))  # the branch gives 0: relu(shortcut) is left
    graph = trace(model)
    scaling = keras.layers.Rescaling(3.0, name="triple")
    node = graph.insert(scaling, graph.find("image").output, into=[graph.find("add")])
    assert graph.find("triple") is node
    assert drawing(graph)["conv"] == ["image"]
    x = uniform((2, 8, 8, 4))
    assert_equal(array(graph.build()(x)), array(keras.ops.relu(3 * x)))


def test_insert_behind_an_output():
    model = residual()
    graph = trace(model)
    graph.insert(keras.layers.Rescaling(2.0), model.output)
    x = uniform((2, 8, 8, 4))
    assert_equal(array(graph.build()(x)), 2 * array(model(x)))


def test_insert_inside_a_nested_model_serves_all_its_calls():
    model = nested()
    graph = trace(model)
    inner = graph.find("backbone").subgraph
    inner.insert(keras.layers.Rescaling(2.0, name="double"), inner.find("pool").output)
    new = graph.build()
    assert new.get_layer("backbone").get_layer("double").scale == 2.0
    x = [uniform((2, 8, 8, 3)), uniform((2, 8, 8, 3), seed=1)]
    logits = model.get_layer("head").get_layer("logits")
    assert np.abs(array(logits.bias)).max() == 0  # so that the head is linear
    np.testing.assert_allclose(array(new(x)), 2 * array(model(x)), rtol=1e-5, atol=1e-7)


def test_a_sequential_model_stays_one_while_it_is_a_chain():
    graph = trace(sequential())
    graph.insert(SqueezeExcite(2, name="se"), graph.find("relu").output)
    new = graph.build()
    assert type(new) is keras.Sequential
    assert [layer.name for layer in new.layers] == ["conv", "relu", "se"]
    added = graph.add(keras.layers.Add(name="add"), [graph.find("se").output, new_relu(graph)])
    graph.redirect(graph.find("se").output, added.output)
    assert type(graph.build()) is not keras.Sequential


def new_relu(graph):
    return graph.find("relu").output


def test_weights_of_a_new_layer_are_kept():
    graph = trace(residual())
    node = graph.insert(SqueezeExcite(2, name="se", gate_scale=2.0), graph.find("norm").output)
    node.op.expand.kernel.assign(np.zeros((2, 4)))
    node.op.expand.bias.assign(np.zeros(4))
    model, new = graph.model, graph.build()
    assert new.get_layer("se") is not node.op
    x = uniform((2, 8, 8, 4))
    assert_equal(array(new(x)), array(model(x)))  # the gate is 2 * sigmoid(0) = 1


def test_a_node_that_is_redirected_past_is_gone():
    model = residual()
    graph = trace(model)
    norm = graph.find("norm")
    graph.redirect(norm.output, norm.inputs[0])
    assert "norm" not in drawing(graph)
    new = graph.build()
    x = uniform((2, 8, 8, 4))
    expected = np.maximum(array(model.get_layer("conv")(x)) + x, 0)
    np.testing.assert_allclose(array(new(x)), expected, rtol=1e-6)


def test_replace_several_nodes_by_one():
    model = residual()
    set_random_weights(model)
    conv, norm = model.get_layer("conv"), model.get_layer("norm")
    graph = trace(model)
    image, old = graph.find("image").output, graph.find("norm").output
    folded = graph.add(keras.layers.Conv2D(4, 3, padding="same", name="folded"), image)
    scale = array(norm.gamma) / np.sqrt(array(norm.moving_variance) + norm.epsilon)
    bias = (array(conv.bias) - array(norm.moving_mean)) * scale + array(norm.beta)
    folded.op.set_weights([array(conv.kernel) * scale, bias])
    graph.redirect(old, folded.output)
    new = graph.build()
    assert [layer.name for layer in new.layers] == ["image", "folded", "add", "relu"]
    x = uniform((2, 8, 8, 4))
    np.testing.assert_allclose(array(new(x)), array(model(x)), rtol=1e-4, atol=1e-5)


def test_a_new_layer_called_twice_is_shared():
    graph = trace(several_outputs_one_of_them_inside())
    dense = keras.layers.Dense(4, name="extra")
    first = graph.insert(dense, graph.find("a").output)
    second = graph.insert(dense, first.output)
    assert [first.name, second.name] == ["extra", "extra#2"]
    assert len(graph.build().weights) == 6


def test_other_tensors_can_be_made_the_outputs():
    model = residual()
    graph = trace(model)
    doubled = graph.add(keras.layers.Rescaling(2.0, name="double"), graph.find("norm").output)
    graph.set_outputs({"all": model.output, "norm": doubled.output})
    assert graph.find("double") is doubled
    assert graph.sole_consumer(graph.find("norm").output) is None
    x = uniform((2, 8, 8, 4))
    given = graph.build()(x)
    norm = model.get_layer("norm")(model.get_layer("conv")(x))
    assert_equal(arrays(given), {"all": array(model(x)), "norm": 2 * array(norm)})


def test_edits_leave_the_model_that_was_traced():
    model = nested()
    config, tensors = model.get_config(), [layer.output for layer in model.layers]
    graph = trace(model)
    for _, inner in list(graph.graphs()):
        inner.insert(keras.layers.Rescaling(0.5), inner.nodes[0].output)
    graph.build()
    assert model.get_config() == config
    assert all(a is b.output for a, b in zip(tensors, model.layers, strict=True))
    assert "rescaling" not in str(trace(model))


def test_a_cycle_is_refused():
    graph = trace(residual())
    graph.redirect(graph.find("conv").output, graph.find("norm").output)
    with pytest.raises(ValueError, match="cycle at 'norm'"):
        graph.build()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet50", "InceptionResNetV2", "ConvNeXtTiny"])
def test_rebuilt_networks_of_keras_applications_compute_the_same(name):
    model = getattr(keras.applications, name)(weights=None, input_shape=(224, 224, 3))
    new = trace(model).build()
    x = uniform((1, 224, 224, 3))
    assert_equal(array(new(x)), array(model(x)))


def test_a_chain_longer_than_pythons_own_limit_of_calls_is_built():
    """Keras walks it by recursion; the deepest ResNet-RS has over 1,500 layers in a row."""
    layer = keras.layers.Identity()
    x = image = keras.Input((1,))
    for _ in range(1_600):
        x = layer(x)
    assert len(trace(keras.Model(image, x)).nodes) == 1_601

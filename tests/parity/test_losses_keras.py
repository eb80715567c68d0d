"""Keras as the oracle: every loss as class and function, with weights, masks, edges and configurations."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import inspect
import json

import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras.src.backend.common.masking import set_keras_mask
from keras.src.trainers.compile_utils import get_loss

import easyflax
import easyflax.losses as losses
from easyflax.masks import attach_masks

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(6, 5)).astype("float32")
SHARES = np.exp(SCORES) / np.exp(SCORES).sum(-1, keepdims=True)
INDICES = RNG.integers(0, 5, size=6)
ONE_HOT = np.eye(5, dtype="float32")[INDICES]
BINARY = RNG.integers(0, 2, size=(6, 5)).astype("float32")
POSITIVE = RNG.uniform(0, 3, size=(6, 5)).astype("float32")
UNIT = SCORES / np.linalg.norm(SCORES, axis=-1, keepdims=True)
STEPS = RNG.normal(size=(3, 4, 5)).astype("float32")  # logits of sequences

# By name: labels and outputs that make sense, and the arguments to try besides the defaults.
SAMPLES = {
    "BinaryCrossentropy": (BINARY, SHARES, [{"label_smoothing": 0.2}, {"axis": 0}]),
    "BinaryFocalCrossentropy": (
        BINARY,
        SHARES,
        [{"apply_class_balancing": True, "alpha": 0.4}, {"gamma": 1.0}, {"label_smoothing": 0.1}],
    ),
    "CTC": (np.array([[1, 2, 0], [3, 3, 4], [2, 0, 0]]), STEPS, []),
    "CategoricalCrossentropy": (ONE_HOT, SHARES, [{"label_smoothing": 0.2}, {"axis": 0}]),
    "CategoricalFocalCrossentropy": (
        ONE_HOT,
        SHARES,
        [{"alpha": 0.5, "gamma": 3.0}, {"alpha": [0.1, 0.2, 0.3, 0.4, 0.5]}, {"label_smoothing": 0.1}],
    ),
    "CategoricalGeneralizedCrossEntropy": (INDICES, SHARES, [{"q": 0.2}]),
    "CategoricalHinge": (ONE_HOT, SCORES, []),
    "Circle": (
        np.array([0, 1, 1, 0, 2, 0]),
        UNIT,
        [{"gamma": 8.0, "margin": 0.2}, {"remove_diagonal": False}],
    ),
    "CosineSimilarity": (POSITIVE, SCORES, [{"axis": 0}]),
    "Dice": (BINARY, SHARES, [{"axis": -1}, {"axis": (0, 1)}]),
    "Hinge": (BINARY, SCORES, []),
    "Huber": (POSITIVE, SCORES, [{"delta": 0.3}]),
    "KLDivergence": (np.roll(SHARES, 1, axis=0), SHARES, []),
    "LogCosh": (POSITIVE, SCORES, []),
    "MeanAbsoluteError": (POSITIVE, SCORES, []),
    "MeanAbsolutePercentageError": (POSITIVE, SCORES, []),
    "MeanSquaredError": (POSITIVE, SCORES, []),
    "MeanSquaredLogarithmicError": (POSITIVE, SCORES, []),
    "Poisson": (POSITIVE, SHARES, []),
    "SparseCategoricalCrossentropy": (INDICES, SHARES, [{"ignore_class": 2}, {"ignore_class": -1}]),
    "SquaredHinge": (2 * BINARY - 1, SCORES, []),
    "Tversky": (BINARY, SHARES, [{"alpha": 0.2, "beta": 0.9}, {"axis": -1}]),
}
WITH_LOGITS = [
    name for name in SAMPLES if "from_logits" in inspect.signature(getattr(losses, name)).parameters
]
CASES = [
    pytest.param(name, arguments, id=f"{name}-{'-'.join(arguments) or 'defaults'}-{position}")
    for name, (_, _, tried) in SAMPLES.items()
    for position, arguments in enumerate([{}, *tried])
]
FUNCTIONS = sorted(
    {name for name in dir(keras.losses) if name[0].islower()} - {"get", "serialize", "deserialize"}
)
CLASSES = sorted(name for name in dir(keras.losses) if name[0].isupper())


def _class_of(function: str) -> str:
    return next(name for name in SAMPLES if getattr(losses, name).function.__name__ == function)


def _close(ours, theirs, rtol=2e-6, atol=1e-6):
    theirs = np.asarray(theirs)
    assert np.shape(ours) == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def _both(name, **arguments):
    return getattr(losses, name)(**arguments), getattr(keras.losses, name)(**arguments)


def _masked(y_pred, mask):
    """The same outputs for both, with a mask attached in the manner of each."""
    ours, theirs = jnp.array(y_pred), keras.ops.convert_to_tensor(y_pred)
    if mask is not None:
        attach_masks(ours, jnp.asarray(mask))
        set_keras_mask(theirs, keras.ops.convert_to_tensor(mask))
    return ours, theirs


@pytest.mark.parametrize("name", [*CLASSES, *FUNCTIONS, "get", "serialize", "deserialize"])
def test_arguments_and_defaults_are_kerass(name):
    ours, theirs = (
        [(p.name, p.default) for p in inspect.signature(getattr(module, name)).parameters.values()]
        for module in (losses, keras.losses)
    )
    assert ours == theirs


def test_every_loss_is_tried_here():
    assert {*CLASSES} == {*SAMPLES, "Loss"}
    assert {*FUNCTIONS} == {getattr(losses, name).function.__name__ for name in SAMPLES}


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_values_equal_kerass(name, arguments):
    y_true, y_pred, _ = SAMPLES[name]
    ours, theirs = _both(name, reduction=None if "Circle" not in name else "mean", **arguments)
    _close(ours(y_true, y_pred), theirs(y_true, y_pred))


@pytest.mark.parametrize("name", WITH_LOGITS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_values_of_logits_equal_kerass(name, smoothing):
    arguments = {"label_smoothing": smoothing} if smoothing and "Sparse" not in name else {}
    ours, theirs = _both(name, from_logits=True, reduction="none", **arguments)
    y_true = SAMPLES[name][0]
    for scale in (1, 30):
        _close(ours(y_true, scale * SCORES), theirs(y_true, scale * SCORES), rtol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_equal_kerass(name):
    y_true, y_pred, _ = SAMPLES[_class_of(name)]
    arguments = {"q": 0.7} if "generalized" in name else {}
    _close(
        getattr(losses, name)(y_true, y_pred, **arguments),
        getattr(keras.losses, name)(y_true, y_pred, **arguments),
    )
    if "from_logits" in inspect.signature(getattr(losses, name)).parameters:
        ours = getattr(losses, name)(y_true, SCORES, from_logits=True)
        _close(ours, getattr(keras.losses, name)(y_true, SCORES, from_logits=True))


def test_the_circle_function_compares_with_other_embeddings_as_kerass_does():
    labels, outputs, _ = SAMPLES["Circle"]
    others = labels[:4], UNIT[2:]
    for remove_diagonal in (False, True):
        _close(
            losses.circle(labels, outputs, *others, remove_diagonal),
            keras.losses.circle(labels, outputs, *others, remove_diagonal),
        )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("MeanSquaredError", {}),
        ("SparseCategoricalCrossentropy", {}),
        ("SparseCategoricalCrossentropy", {"ignore_class": 1}),
    ],
    ids=["mse", "sparse", "sparse-ignoring"],
)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weights", ["none", "scalar", "row", "element"])
def test_sequences_are_weighed_masked_and_reduced_as_in_keras(name, arguments, masked, weights):
    # Per row Keras takes weights (batch, 1) only, and divides by their sum, whatever the number of steps.
    y_true = (
        RNG.integers(0, 5, size=(3, 4)) if "Sparse" in name else RNG.normal(size=(3, 4, 5)).astype("float32")
    )
    shares = np.exp(STEPS) / np.exp(STEPS).sum(-1, keepdims=True)
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]], bool) if masked else None
    weight = {
        "none": None,
        "scalar": np.float32(1.5),
        "row": RNG.uniform(0, 2, size=(3, 1)).astype("float32"),
        "element": RNG.uniform(0, 2, size=(3, 4)).astype("float32"),
    }[weights]
    reductions = ["sum_over_batch_size", "mean", "sum", "none", None]
    if weights in ("none", "element") or (weights == "row" and masked):
        reductions.append("mean_with_sample_weight")
    for reduction in reductions:
        ours, theirs = _both(name, reduction=reduction, **arguments)
        mine, other = _masked(shares, mask)
        _close(ours(y_true, mine, weight), theirs(y_true, other, weight))


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight", None])
def test_rows_are_weighed_and_masked_as_in_keras(reduction):
    ours, theirs = _both("MeanAbsoluteError", reduction=reduction)
    for shape in [(6,), (6, 1)]:
        weight = RNG.uniform(0, 2, size=shape).astype("float32")
        for mask in (None, np.array([1, 0, 1, 1, 0, 1], bool), np.zeros(6, bool)):
            mine, other = _masked(SCORES, mask)
            # With weights (n, 1) the values of Keras become (n, 1).
            _close(ours(POSITIVE, mine, weight), np.squeeze(theirs(POSITIVE, other, weight)))


@pytest.mark.parametrize("name", ["MeanSquaredError", "SparseCategoricalCrossentropy"])
def test_a_mask_that_leaves_out_everything_gives_zero_as_in_keras(name):
    y_true, y_pred, _ = SAMPLES[name]
    for reduction in ("sum_over_batch_size", "sum", "mean_with_sample_weight"):
        ours, theirs = _both(name, reduction=reduction)
        mine, other = _masked(y_pred, np.zeros(6, bool))
        assert float(ours(y_true, mine)) == float(theirs(y_true, other)) == 0


def test_a_class_that_is_ignored_everywhere_gives_zero_as_in_keras():
    ours, theirs = _both("SparseCategoricalCrossentropy", ignore_class=-1)
    labels = np.full(6, -1)
    assert float(ours(labels, SHARES)) == float(theirs(labels, SHARES)) == 0


ZEROS, ONES = np.zeros((2, 3), "float32"), np.ones((2, 3), "float32")
CORNERS = np.array([[1, 0, 0], [0, 0, 1]], "float32")


@pytest.mark.parametrize("name", sorted(set(SAMPLES) - {"CTC", "Circle"}))
def test_exact_zeros_and_ones_equal_kerass(name):
    indices = "Sparse" in name or "Generalized" in name
    for labels, outputs in [(ZEROS, ZEROS), (CORNERS, ONES - CORNERS), (CORNERS, CORNERS), (ZEROS, CORNERS)]:
        if indices and not outputs.any():
            continue  # no distribution at all: 0 / 0 in both
        labels = labels.argmax(-1) if indices else labels
        ours, theirs = _both(name, reduction="none")
        _close(ours(labels, outputs), theirs(labels, outputs), rtol=1e-5)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [1, 1, 0]], ids=["alike", "different", "mixed"])
def test_circle_without_positives_or_negatives_equals_kerass(labels):
    ours, theirs = _both("Circle")
    _close(ours(np.array(labels), UNIT[:3]), theirs(np.array(labels), UNIT[:3]))
    _close(ours(np.array(labels)[:, None], UNIT[:3]), theirs(np.array(labels)[:, None], UNIT[:3]))


def test_ctc_with_long_repeated_and_empty_labels_equals_kerass():
    labels = np.array([[1, 1, 1], [0, 0, 0], [4, 3, 0]])
    _close(losses.ctc(labels, STEPS), keras.losses.ctc(labels, STEPS), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["MeanSquaredError", "BinaryCrossentropy", "SparseCategoricalCrossentropy"])
def test_half_precision_outputs_give_kerass_float32_number(name, dtype):
    y_true, y_pred, _ = SAMPLES[name]
    y_pred = jnp.asarray(y_pred, dtype)
    ours, theirs = (loss(y_true, y_pred) for loss in _both(name))
    assert ours.dtype == theirs.dtype == jnp.float32
    _close(ours, theirs)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "mixed_bfloat16"])
def test_the_dtype_of_a_loss_is_that_of_its_result_as_in_keras(dtype):
    ours, theirs = _both("MeanSquaredError", dtype=dtype)
    assert ours.dtype == theirs.dtype
    mine, other = ours(POSITIVE, SCORES), theirs(POSITIVE, SCORES)
    assert mine.dtype == other.dtype
    np.testing.assert_allclose(np.float32(mine), np.float32(other), rtol=2e-2)


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8", "bool", "float64", "list"])
def test_labels_of_any_kind_equal_kerass(kind):
    for name in ("BinaryCrossentropy", "Hinge", "MeanSquaredError"):
        labels = BINARY.tolist() if kind == "list" else BINARY.astype(kind)
        outputs = SHARES.tolist() if kind == "list" else SHARES
        ours, theirs = _both(name)
        _close(ours(labels, outputs), theirs(labels, outputs))


@pytest.mark.parametrize(
    ("y_shape", "output_shape"),
    [((6,), (6, 1)), ((6, 1), (6,)), ((3, 4), (3, 4, 1)), ((3, 4, 1), (3, 4)), ((2, 3, 2, 1), (2, 3, 2, 1))],
)
def test_an_axis_of_one_element_is_treated_as_in_keras(y_shape, output_shape):
    y_true = RNG.integers(0, 2, size=y_shape).astype("float32")
    y_pred = RNG.uniform(0.1, 0.9, size=output_shape).astype("float32")
    for name in ("MeanSquaredError", "BinaryCrossentropy", "CosineSimilarity"):
        ours, theirs = _both(name, reduction="none")
        _close(ours(y_true, y_pred), theirs(y_true, y_pred))


@pytest.mark.parametrize(
    "name", ["mean_squared_error", "kl_divergence", "cosine_similarity", "binary_crossentropy"]
)
def test_functions_of_one_vector_give_a_number_as_in_keras(name):
    y_true, y_pred = SHARES[:2]
    _close(getattr(losses, name)(y_true, y_pred), getattr(keras.losses, name)(y_true, y_pred))


@pytest.mark.parametrize(
    "name", sorted(set(SAMPLES) - {"CTC", "Circle", "CategoricalGeneralizedCrossEntropy"})
)
def test_one_vector_without_a_batch_has_kerass_mean(name):
    y_true, y_pred, _ = SAMPLES[name]
    ours, theirs = _both(name)
    np.testing.assert_allclose(
        ours(y_true[0], y_pred[0]), np.asarray(theirs(y_true[0], y_pred[0])), rtol=2e-6, atol=1e-6
    )


def test_classes_on_another_axis_are_those_on_the_last_one():
    y_true = RNG.integers(0, 4, size=(3, 5))
    logits = np.moveaxis(RNG.normal(size=(3, 5, 4)).astype("float32"), -1, 1)  # (batch, classes, steps)
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y_true, np.moveaxis(logits, 1, -1))
    for labels in (y_true, y_true[:, None]):
        _close(losses.SparseCategoricalCrossentropy(from_logits=True, axis=1)(labels, logits), theirs)
    one_hot = np.moveaxis(np.eye(4, dtype="float32")[y_true], -1, 1)
    ours, theirs = _both("CategoricalCrossentropy", from_logits=True, axis=1)
    _close(ours(one_hot, logits), theirs(one_hot, logits))


# -- names and configurations


@pytest.mark.parametrize(
    "name",
    [*CLASSES[:-1], *FUNCTIONS, "bce", "BCE", "kld", "KLD", "mae", "MAE", "mse", "MSE", "MAPE", "msle"],
)
def test_names_stand_for_what_they_do_in_keras(name):
    if "eneralized" in name or name == "Loss":
        return  # unknown to `get` of Keras
    theirs, ours = keras.losses.get(name), losses.get(name)
    assert isinstance(ours, losses.Loss) == isinstance(theirs, keras.losses.Loss)
    if isinstance(ours, losses.Loss):
        assert type(ours).__name__ == type(theirs).__name__
    else:
        assert ours.__name__ == theirs.__name__


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_configurations_are_kerass_and_load_on_both_sides(name, arguments):
    ours, theirs = _both(name, **arguments)
    mine, other = ours.get_config(), theirs.get_config()
    forgotten = set(getattr(losses, name).unwritten) & set(arguments)  # Keras loses these
    assert set(mine) == {*other, *forgotten}
    assert {key: mine[key] for key in other} == other
    assert type(theirs).from_config(mine).get_config() == other
    written = json.loads(json.dumps(losses.serialize(ours)))
    assert json.dumps(losses.deserialize(written).get_config()) == json.dumps(mine)
    again = losses.deserialize(json.loads(json.dumps(keras.losses.serialize(theirs))))
    assert type(again) is type(ours)
    assert json.dumps(again.get_config()) == json.dumps({key: mine[key] for key in mine if key in other})


def test_what_keras_leaves_out_of_its_configurations_is_kept_here():
    loss = losses.deserialize(losses.serialize(losses.Huber(0.3)))
    assert loss.get_config() == losses.Huber(0.3).get_config()
    _close(loss(POSITIVE, SCORES), keras.losses.Huber(0.3)(POSITIVE, SCORES))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_keras_wrote_load_here(name):
    written = keras.losses.serialize(getattr(keras.losses, name))
    assert losses.deserialize(written) is getattr(losses, name)
    assert losses.deserialize(losses.serialize(getattr(losses, name))) is getattr(losses, name)


@pytest.mark.parametrize(
    ("y_shape", "output_shape"),
    [
        ((4,), (4, 1)),
        ((4, 1), (4, 1)),
        ((4,), (4, 3)),
        ((4, 1), (4, 3)),
        ((4, 3), (4, 3)),
        ((4, 5), (4, 5, 3)),
    ],
)
def test_crossentropy_is_chosen_by_shapes_as_in_keras(y_shape, output_shape):
    for name in ("crossentropy", "ce", "CE"):
        theirs = get_loss(name, np.zeros(y_shape), np.zeros(output_shape))
        ours = losses.as_loss(name, output_shape=output_shape, y_shape=y_shape)
        assert type(ours).function.__name__ == theirs.fn.__name__
        assert ours.name == theirs.name
        assert ours.from_logits is None


@pytest.mark.parametrize("spec", ["mse", "Huber", "function", "class", "own function"])
def test_the_name_of_a_compiled_loss_is_kerass(spec):
    def my_loss(y_true, y_pred):
        return y_true - y_pred

    specs = {
        module: {"function": module.huber, "class": module.Huber, "own function": my_loss}.get(spec, spec)
        for module in (losses, keras.losses)
    }
    theirs = get_loss(specs[keras.losses], np.zeros((2, 1)), np.zeros((2, 1)))
    assert losses.as_loss(specs[losses]).name == theirs.name


def test_a_function_of_ones_own_sees_labels_and_outputs_of_one_rank_as_in_keras():
    def difference(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)

    theirs = get_loss(difference, POSITIVE[:, 0], SCORES[:, :1])
    _close(losses.as_loss(difference)(POSITIVE[:, 0], SCORES[:, :1]), theirs(POSITIVE[:, 0], SCORES[:, :1]))


def test_a_loss_of_ones_own_is_the_same_program_on_both_sides():
    def make(package):
        class Scaled(package.Loss):
            def __init__(self, scale=2.0, name="scaled", reduction="sum_over_batch_size"):
                super().__init__(name=name, reduction=reduction)
                self.scale = scale

            def call(self, y_true, y_pred):
                return self.scale * keras.ops.mean(keras.ops.abs(1 - y_true - y_pred), axis=-1)

            def get_config(self):
                return {**super().get_config(), "scale": self.scale}

        return Scaled

    ours, theirs = make(losses)(3.0, reduction="sum"), make(keras.losses)(3.0, reduction="sum")
    labels = np.array([[0, 1, 255]] * 6, "uint8")
    weight = np.arange(6, dtype="float32")
    _close(ours(labels, SCORES[:, :3], weight), theirs(labels, SCORES[:, :3], weight))
    assert ours.get_config() == theirs.get_config()
    assert type(ours).from_config(theirs.get_config()).get_config() == theirs.get_config()


def test_a_loss_of_ones_own_may_take_nestings_as_in_keras():
    def make(package):
        class Both(package.Loss):
            def call(self, y_true, y_pred):
                first = keras.ops.mean(keras.ops.square(y_true["a"] - y_pred["a"]), axis=-1)
                return first + keras.ops.abs(y_true["b"] - y_pred["b"])

        return Both()

    y_true = {"a": POSITIVE, "b": INDICES}
    y_pred = {"a": SCORES, "b": SCORES[:, 0]}
    weight = np.arange(6, dtype="float32")
    _close(make(losses)(y_true, y_pred, weight), make(keras.losses)(y_true, y_pred, weight))


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("loss", ["mse", "sparse_categorical_crossentropy"])
def test_steps_that_the_model_masks_are_left_out_of_training_as_in_keras(loss):
    tokens = RNG.integers(0, 7, size=(10, 5))  # zeros are padding
    targets = RNG.normal(size=(10, 5, 1)) if loss == "mse" else RNG.integers(0, 3, size=(10, 5))
    weight = RNG.uniform(size=(10, 1))
    weights: list[np.ndarray] = []

    def train(package):
        units, ending = (1, None) if loss == "mse" else (3, "softmax")
        layers = package.layers
        masked = [
            layers.Input((5,)),
            layers.Embedding(7, 4, mask_zero=True),
            layers.SimpleRNN(4, return_sequences=True),
        ]
        model = package.Sequential([*masked, layers.Dense(units, activation=ending)])
        model.compile("sgd", loss)
        weights.extend([] if weights else [np.asarray(weight.value) for weight in model.weights])
        model.set_weights(weights)
        arguments = {"batch_size": 4, "verbose": 0, "sample_weight": weight}
        trained = model.fit(tokens, targets, epochs=2, shuffle=False, **arguments).history["loss"]
        return [*trained, model.evaluate(tokens, targets, **arguments)]

    theirs = train(keras)
    np.testing.assert_allclose(train(easyflax), theirs, rtol=1e-5)

"""Keras as the oracle: ten models of `ten_models.py`, each from the same code but for the namespace.

With Keras's weights, outputs agree to 1e-5 of the largest entry, in inference and in training mode: both
compute in float32, but not always in the same order. Losses of training agree to 1e-5 relative.
"""

from tests.parity.keras_oracle import assert_close, keras_weights  # sets the backend, first

# isort: split
import re
from typing import Any

import jax
import keras
import numpy as np
import pytest

import easyflax as ef
from tests.parity.ten_models import MODELS, inputs_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of Keras
]

TOLERANCE = 1e-5


def make_both(name: str) -> tuple[Any, Any, Any]:
    """Returns our model and Keras's, with equal weights, and inputs for them."""
    x = inputs_for(name)
    keras.utils.set_random_seed(0)
    ours, theirs = (MODELS[name](namespace) for namespace in (ef, keras))
    if not theirs.built:  # no shape was stated
        ours(x), theirs(x)
    rng = np.random.default_rng(1)  # no weight is to be 0 or 1, as biases and scales are at first
    weights = [weight + rng.uniform(0.01, 0.1, weight.shape) for weight in keras_weights(theirs)]
    theirs.set_weights([weight.astype("float32") for weight in weights])
    ours.set_weights(keras_weights(theirs))
    return ours, theirs, x


def run_in_both_modes(model: Any, x: Any) -> tuple[Any, Any, list[Any]]:
    """Returns the outputs in inference and in training, and the weights that the latter has changed."""

    @jax.jit
    def run(trained, others, x):
        inference, _ = model.stateless_call(trained, others, x, training=False)
        training, others = model.stateless_call(trained, others, x, training=True)
        return inference, training, others

    variables = model.trainable_variables, model.non_trainable_variables
    trained, others = ([_array(variable) for variable in some] for some in variables)
    inference, training, others = run(trained, others, x)
    return inference, training, others[: len(model.non_trainable_weights)]


def _array(variable: Any) -> Any:
    return variable.get_raw_value() if isinstance(variable, ef.nnx.Variable) else variable.value


def layer_list(model: Any) -> list[tuple[str, str]]:
    """Returns name without number, and type of each layer."""
    return [(re.sub(r"_\d+$", "", layer.name), type(layer).__name__) for layer in model.layers]


def assert_same_output_shapes(ours: Any, theirs: Any) -> None:
    for one, other in zip(ours.layers, theirs.layers, strict=True):
        if hasattr(other, "output"):  # layers of subclasses of Model are called on no symbolic values
            shapes = [jax.tree.map(lambda value: value.shape, layer.output) for layer in (one, other)]
            assert shapes[0] == shapes[1], one.name


def totals(model: Any) -> dict[str, str]:
    """Returns the numbers of parameters that the summary ends with."""
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    found = re.findall(r"(Total|Trainable|Non-trainable) params: ([\d,]+)", "\n".join(lines))
    assert len(found) == 3
    return dict(found)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_keras_layers_parameters_and_outputs(name):
    ours, theirs, x = make_both(name)
    assert ours.count_params() == theirs.count_params()
    assert totals(ours) == totals(theirs)
    assert layer_list(ours) == layer_list(theirs)
    assert_same_output_shapes(ours, theirs)
    results = run_in_both_modes(ours, x), run_in_both_modes(theirs, x)
    assert jax.tree.structure(results[0]) == jax.tree.structure(results[1])
    assert_close(*results, rtol=TOLERANCE)


def test_resnet18_has_11183562_parameters():
    model = ef.nnx.eval_shape(lambda: MODELS["resnet18"](ef, width=64))
    assert totals(model) == {"Total": "11,183,562", "Trainable": "11,173,962", "Non-trainable": "9,600"}
    assert model.count_params() == 11_183_562


def target_for(name: str, x: Any, rows: int) -> Any:
    """Returns classes or numbers to train a model on."""
    rng = np.random.default_rng(2)
    if name == "autoencoder":
        return x
    if name == "wide_and_deep":
        return rng.normal(size=(rows, 1)).astype("float32")
    return rng.integers(0, 3, rows).astype("int32")


@pytest.mark.parametrize("name", ["perceptron", "lstm_classifier", "wide_and_deep", "autoencoder"])
def test_a_model_trains_as_in_keras(name):
    ours, theirs, _ = make_both(name)
    rows = 20  # of an epoch's three batches the last is smaller
    x = inputs_for(name, rows)
    y = target_for(name, x, rows)
    loss = "mse" if name in ("wide_and_deep", "autoencoder") else "sparse_categorical_crossentropy"

    def train(model: Any, namespace: Any) -> tuple[list[float], Any]:
        model.compile(namespace.optimizers.SGD(0.02, momentum=0.9), loss)
        history = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        return history.history["loss"], model.predict(x, batch_size=8, verbose=0)

    (losses, outputs), (their_losses, their_outputs) = train(ours, ef), train(theirs, keras)
    np.testing.assert_allclose(losses, their_losses, rtol=TOLERANCE)
    np.testing.assert_allclose(outputs, their_outputs, rtol=10 * TOLERANCE, atol=TOLERANCE)
    for weight, other in zip(ours.get_weights(), keras_weights(theirs), strict=True):
        np.testing.assert_allclose(weight, other, rtol=10 * TOLERANCE, atol=TOLERANCE)

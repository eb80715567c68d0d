import jax
import jax.numpy as jnp
import pytest

import easyflax.nnx as nnx
from easyflax.train.binding import Binding
from easyflax.train.objective import trace_inference
from easyflax.train.output_kind import output_kinds


def _kinds(function):
    return output_kinds(jax.make_jaxpr(function)(jnp.ones((3, 4, 1))))


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (jax.nn.softmax, "softmax"),
        (lambda x: jax.nn.softmax(x, axis=(1, 2)), "softmax"),
        (lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True), "softmax"),
        (lambda x: jax.nn.softmax(x).reshape(3, 4), "softmax"),
        (lambda x: jax.nn.softmax(x).astype(jnp.bfloat16).astype(jnp.float32), "softmax"),
        (lambda x: jnp.squeeze(jax.nn.softmax(x), -1), "softmax"),
        (lambda x: jax.nn.softmax(x.astype(jnp.bfloat16)), "softmax"),
        (jax.jit(jax.nn.softmax), "softmax"),
        (jax.checkpoint(jax.nn.softmax), "softmax"),
        (jax.nn.sigmoid, "sigmoid"),
        (lambda x: jax.nn.sigmoid(x)[..., 0], "sigmoid"),
        (jax.nn.log_softmax, "logits"),
        (lambda x: x @ jnp.ones((1, 5)), "logits"),
        (lambda x: jax.nn.softmax(x) @ jnp.ones((1, 5)), "logits"),
        (lambda x: x / x.sum(), "logits"),
        (lambda x: jnp.exp(x) / jnp.exp(2 * x).sum(), "logits"),
        (lambda x: x * jax.nn.sigmoid(x), "logits"),
        (lambda x: x, "logits"),
    ],
)
def test_the_last_operations_tell_probabilities_from_logits(function, kind):
    assert _kinds(function) == [kind]


def test_every_output_is_looked_at():
    assert _kinds(lambda x: (jax.nn.softmax(x), x + 1, jax.nn.sigmoid(x))) == ["softmax", "logits", "sigmoid"]


def test_constant_outputs_are_no_probabilities():
    assert _kinds(lambda x: 1.0) == ["logits"]


@pytest.mark.parametrize(
    ("last", "kind"), [(nnx.softmax, "softmax"), (nnx.sigmoid, "sigmoid"), (nnx.relu, "logits")]
)
def test_modules_are_traced_in_inference_mode(last, kind):
    rngs = nnx.Rngs(0)
    module = nnx.Sequential(nnx.Linear(4, 3, rngs=rngs), last, nnx.Dropout(0.5, rngs=rngs))
    traced, output, *_ = trace_inference(Binding(module), jnp.ones((2, 4)))
    assert output_kinds(traced) == [kind]
    assert output.shape == (2, 3)

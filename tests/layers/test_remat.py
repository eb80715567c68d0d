"""Which calls are rematerialised, counted in the jaxpr, and that nothing else changes by it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax as ef
from easyflax import layers, nnx

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def number_of_remats(jaxpr):
    """How many calls in a jaxpr are rematerialised, those inside of others included."""
    total = 0
    for equation in jaxpr.eqns:
        total += equation.primitive.name in ("checkpoint", "remat", "remat2")
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            total += number_of_remats(getattr(value, "jaxpr", value)) if _is_jaxpr(value) else 0
    return total


def _is_jaxpr(value):
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")


def _remats(f, *args):
    return number_of_remats(jax.make_jaxpr(f)(*args).jaxpr)


def _chain(scope, **names):
    with scope:
        return ef.Sequential(
            [
                ef.Input((4,)),
                layers.Dense(8, activation="gelu", name="wide"),
                layers.BatchNormalization(),
                layers.Dense(3),
            ]
        )


SCOPES = {
    "full": (ef.RematScope(), 3),
    "activations": (ef.RematScope("activations"), 1),
    "larger": (ef.RematScope("larger_than", output_size_threshold=47), 2),
    "largest": (ef.RematScope("larger_than", output_size_threshold=48), 0),
    "named": (ef.RematScope("list_of_layers", layer_names=["wide", "elsewhere"]), 1),
    "named by the model": (ef.RematScope("list_of_layers", layer_names=["dense"]), 1),
    "none": (ef.RematScope(None), 0),
}


@pytest.mark.parametrize("kind", SCOPES)
def test_layers_made_in_a_scope_are_rematerialised_as_it_says(kind):
    scope, expected = SCOPES[kind]
    assert _remats(_chain(scope), X) == expected


def test_layers_made_outside_of_a_scope_are_not_rematerialised_by_a_call_within():
    layer = layers.Dense(3)
    layer(X)
    with ef.RematScope():
        assert _remats(layer, X) == 0


def test_the_innermost_scope_counts():
    with ef.RematScope("full"):
        outer = layers.Dense(3)
        with ef.RematScope(None):
            inner = layers.Dense(3)
        after = layers.Dense(3)
    assert [_remats(ef.Sequential([ef.Input((4,)), one]), X) for one in (outer, inner, after)] == [1, 0, 1]


def test_what_is_within_a_rematerialised_layer_is_not_rematerialised_again():
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inside = layers.Dense(4)

        def call(self, inputs):
            return inputs + self.inside(inputs)

    with ef.RematScope():
        model = ef.Sequential([ef.Input((4,)), Block(), Block()])
    assert _remats(model, X) == 2


@pytest.mark.parametrize("policy", [None, "dots_saveable", "nothing_saveable"])
def test_gradients_are_those_without_it(policy):
    with ef.RematScope(policy=policy):
        layer = layers.Dense(3, activation="gelu")
    layer(X)

    def loss(layer):
        return jnp.sum(layer(X) ** 2)

    with_remat = nnx.grad(loss)(layer)
    layer._remat_scope = None
    assert jax.tree.leaves(with_remat)
    for one, other in zip(jax.tree.leaves(with_remat), jax.tree.leaves(nnx.grad(loss)(layer)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_policy_says_what_is_kept():
    class Deep(layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(4, 4))

        def call(self, inputs):
            for _ in range(3):
                inputs = jnp.sin(jnp.exp(inputs @ self.kernel))
            return inputs

    def kept(policy):
        with ef.RematScope(policy=policy):
            layer = Deep()
        layer(X)
        _, backward = jax.vjp(layer, jnp.asarray(X))
        return sum(leaf.size for leaf in jax.tree.leaves(backward))

    assert kept("nothing_saveable") < kept("dots_saveable") < kept("everything_saveable")
    assert kept(jax.checkpoint_policies.dots_saveable) == kept("dots_saveable")


def test_random_streams_and_statistics_change_once():
    def made(scope):
        with scope:
            model = ef.Sequential(
                [ef.Input((4,)), layers.BatchNormalization(), layers.Dropout(0.5, seed=1), layers.Flatten()]
            )

        @nnx.jit
        def step(model):
            return nnx.value_and_grad(lambda model: jnp.sum(model(X, training=True) ** 2))(model)[0]

        return [float(step(model)) for _ in range(3)], model.get_weights()

    losses, weights = made(ef.RematScope())
    expected_losses, expected_weights = made(ef.RematScope(None))
    assert len(set(losses)) == 3
    assert losses == pytest.approx(expected_losses, rel=1e-6)
    for one, other in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_masks_go_in_and_come_out():
    tokens = np.array([[1, 2, 0], [3, 0, 0]])

    def outputs(scope):
        with scope:
            model = ef.Sequential(
                [
                    ef.Input((3,), dtype="int32"),
                    layers.Embedding(4, 2, mask_zero=True, embeddings_initializer="ones"),
                    layers.Dropout(0.0),
                    layers.LSTM(2, kernel_initializer="ones", recurrent_initializer="ones"),
                ]
            )
        return jax.jit(model)(tokens), _remats(model, tokens)

    with_remat, count = outputs(ef.RematScope())
    assert count == 3
    np.testing.assert_allclose(with_remat, outputs(ef.RematScope(None))[0], rtol=1e-6)


def test_losses_that_are_added_within_count_once_and_add_up_where_a_layer_is_shared():
    def total(scope):
        with scope:
            layer = layers.ActivityRegularization(l2=1.0)
        inputs = ef.Input((4,))
        model = ef.Model(inputs, layer(2.0 * layer(inputs)))

        @nnx.jit
        def loss(model, x):
            model(x)
            return sum(model.losses)

        return [float(loss(model, x)) for x in (X, 2 * X)]

    assert total(ef.RematScope()) == pytest.approx(total(ef.RematScope(None)))


def test_a_call_outside_of_a_transform_may_read_values():
    class Printing(layers.Layer):
        def call(self, inputs):
            return inputs * float(jnp.sum(inputs))

    with ef.RematScope():
        layer = Printing()
    np.testing.assert_allclose(layer(np.ones((2, 2), np.float32)), 4 * np.ones((2, 2)))


def test_a_layer_may_return_what_is_no_array_and_take_flags():
    class Parts(layers.Layer):
        def call(self, inputs, *, flag, training=None):
            return {"x": inputs * (2 if flag else 3), "mode": "train" if training else "eval", "none": None}

    with ef.RematScope():
        layer = Parts()
    layer(X, flag=True)

    def call(x):
        out = layer(x, flag=False, training=True)
        assert (out["mode"], out["none"]) == ("train", None)
        return out["x"]

    np.testing.assert_allclose(jax.jit(call)(X), 3 * X)


# -- ef.remat


def test_remat_of_a_function_takes_arrays_and_flags():
    @ef.remat
    def f(x, double, *, power=2):
        return (2 * x if double else x) ** power

    assert _remats(lambda x: f(x, True, power=3), X) == 1
    np.testing.assert_allclose(jax.grad(lambda x: f(x, True, power=3).sum())(X), 24 * X**2, rtol=1e-5)


def test_remat_of_a_layer_is_the_layer():
    layer = layers.Dense(3)
    assert ef.remat(layer) is layer
    assert _remats(ef.Sequential([ef.Input((4,)), layer]), X) == 1


def test_remat_of_a_method_follows_the_layer_that_it_belongs_to():
    class Custom(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = ef.remat(self.intermediate)

        def build(self, input_shape):
            self.scale = self.add_weight(shape=input_shape[-1:], initializer="ones")

        def intermediate(self, x):
            return jnp.sin(self.scale * jnp.sin(x))

        def call(self, inputs):
            return self.inner(inputs)

    def trained_scale(make):
        model = ef.Sequential([ef.Input((4,)), make()])
        model.compile(ef.optimizers.SGD(0.1), "mse")
        model.fit(X, X, epochs=3, verbose=0, shuffle=False)
        assert len(model.get_weights()) == 1
        return model.get_weights()[0]

    plain = type("Plain", (Custom,), {"call": lambda self, inputs: self.intermediate(inputs)})
    assert _remats(ef.Sequential([ef.Input((4,)), Custom()]), X) == 1
    assert np.abs(trained_scale(Custom) - 1).max() > 1e-3
    np.testing.assert_allclose(trained_scale(Custom), trained_scale(plain), rtol=1e-6)


def test_remat_of_a_plain_module_holds_and_trains_it():
    linear = ef.remat(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), policy="nothing_saveable")
    model = ef.Sequential([ef.Input((4,)), linear])
    assert _remats(model, X) == 1
    before = np.asarray(linear.module.kernel[...])
    model.compile("sgd", "mse")
    model.fit(X, X, verbose=0)
    assert np.abs(linear.module.kernel[...] - before).max() > 0


# -- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "ful"}, r"Unknown mode of RematScope 'ful': .* Did you mean 'full'"),
        ({"policy": "dots"}, r"Unknown policy of RematScope 'dots'"),
        ({"policy": "save_only_these_names"}, r"Unknown policy of RematScope"),
        ({"output_size_threshold": 3}, r"output_size_threshold=3 with mode='full', expected it with mode="),
        ({"mode": "larger_than", "output_size_threshold": -1}, r"output_size_threshold is -1, expected"),
        ({"mode": "list_of_layers"}, r"layer_names=\[\] with mode='list_of_layers', expected names"),
        ({"layer_names": ["a"]}, r"layer_names=\['a'\] with mode='full', expected names with mode="),
    ],
    ids=["mode", "policy", "factory", "idle threshold", "threshold", "no names", "idle names"],
)
def test_an_argument_that_cannot_be_honoured_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ef.RematScope(**arguments)


def test_what_is_no_policy_or_list_of_names_or_function_is_refused():
    with pytest.raises(TypeError, match=r"policy is 3, expected a name such as 'dots_saveable' or a func"):
        ef.RematScope(policy=3)
    with pytest.raises(TypeError, match=r"layer_names is 'dense', expected names of layers in a list"):
        ef.RematScope("list_of_layers", layer_names="dense")
    with pytest.raises(TypeError, match=r"remat: got 3, expected a function, a module or a method"):
        ef.remat(3)

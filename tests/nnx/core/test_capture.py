import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


class Counted(nnx.Intermediate):
    pass


class Layer(nnx.Module):
    def __init__(self) -> None:
        self.weight = nnx.Param(jnp.array(2.0))

    def __call__(self, x: Any) -> Any:
        x = self.perturb("inner", x)
        y = self.weight * x
        self.sow(nnx.Intermediate, "out", y)
        self.sow(Counted, "calls", 1, init_fn=lambda: 0, reduce_fn=lambda old, new: old + new)
        return y


class Model(nnx.Module):
    def __init__(self) -> None:
        self.layers = nnx.List([Layer(), Layer()])
        self.tail = self.layers[1]

    def features(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x

    @nnx.jit
    def fast(self, x: Any) -> Any:
        return self.features(x)

    def __call__(self, x: Any) -> Any:
        return self.features(x)


def test_what_is_sown_comes_back_and_leaves_the_modules_alone():
    model = Model()
    structure = nnx.graphdef(model)
    out, sown = nnx.capture(model, nnx.Intermediate)(1.0)
    assert float(out) == 4.0
    assert {path: [float(v) for v in leaf.value] for path, leaf in nnx.to_flat_state(sown)} == {
        ("layers", 0, "out"): [2.0],
        ("layers", 1, "out"): [4.0],
    }
    assert nnx.graphdef(model) == structure
    assert type(sown.layers[0].out) is nnx.Intermediate


def test_each_kind_has_a_state_and_others_are_not_stored():
    model = Model()
    out, sown, counted = nnx.capture(model, nnx.Intermediate, Counted)(1.0)
    assert counted.layers[0].calls.value == 1
    assert "calls" not in sown.layers[0]
    assert float(out) == float(nnx.capture(model)(1.0))
    assert model.sow(nnx.Intermediate, "kept", 1) is True

    @nnx.capture(Counted)
    def only_counted(model: Model) -> bool:
        return model.sow(nnx.Intermediate, "a", 1), model.sow(Counted, "b", 1)  # type: ignore[return-value]

    assert only_counted(Model())[0] == (False, True)


def test_functions_methods_modules_and_partial_functions_can_be_captured():
    model, kind = Model(), nnx.Intermediate
    calls = [
        lambda: nnx.capture(model, kind)(1.0),
        lambda: nnx.capture(model.features, kind)(1.0),
        lambda: nnx.capture(model.fast, kind)(1.0),
        lambda: nnx.capture(lambda model, x: model(x), kind)(model, 1.0),
        lambda: nnx.capture(kind)(lambda model, x: model(x))(model=model, x=1.0),
        lambda: nnx.capture(nnx.jit(lambda model, x: model(x)), kind)(model, 1.0),
        lambda: nnx.capture(functools.partial(lambda model, x: model(x), model), kind)(1.0),
    ]
    for call in calls:
        out, sown = call()
        assert float(out) == 4.0
        assert float(sown.layers[1].out[0]) == 4.0
    out, sown = nnx.capture(kind)(lambda both, x: both["a"](x))({"a": model, "b": 1}, 1.0)
    assert float(sown.a.layers[0].out[0]) == 2.0


def test_repeated_calls_of_one_module_are_collected():
    layer = Layer()
    _, sown = nnx.capture(lambda layer: layer(layer(1.0)), nnx.Intermediate)(layer)
    assert [float(v) for v in sown.out.value] == [2.0, 4.0]
    _, again = nnx.capture(lambda layer: layer(1.0), nnx.Intermediate)(layer)
    assert len(again.out.value) == 1


@pytest.mark.parametrize("jitted", [False, True])
def test_gradients_of_intermediates_come_from_perturbations(jitted: bool):
    model = Model()
    _, zeros = nnx.capture(model, nnx.Perturbation)(1.0)
    assert float(zeros.layers[0].inner.value) == 0.0

    def step(model: Model, zeros: nnx.State, x: Any) -> Any:
        def loss(model: Model, zeros: nnx.State) -> Any:
            return nnx.capture(model, nnx.Intermediate, init=zeros)(x)

        (_, grads), sown = nnx.grad(loss, argnums=(0, 1), has_aux=True)(model, zeros)
        return nnx.merge_state(grads, sown)

    seen = (nnx.jit(step) if jitted else step)(model, zeros, 1.0)
    assert [float(seen.layers[i].inner.value) for i in (0, 1)] == [4.0, 2.0]
    assert [float(seen.layers[i].out[0]) for i in (0, 1)] == [2.0, 4.0]
    assert "__captures__" not in vars(model)


def test_captured_values_go_through_vmap_with_the_module():
    @nnx.capture(nnx.Intermediate, nnx.Perturbation)
    def forward(model: Model, x: jax.Array) -> jax.Array:
        axes = nnx.StateAxes({nnx.Param: None, ...: 0})
        return nnx.vmap(lambda model, x: model(x), in_axes=(axes, 0))(model, x)

    out, sown, zeros = forward(Model(), jnp.arange(3.0))
    np.testing.assert_array_equal(out, 4 * jnp.arange(3.0))
    np.testing.assert_array_equal(sown.layers[0].out[0], 2 * jnp.arange(3.0))
    assert zeros.layers[1].inner.value.shape == (3,)


def test_method_outputs_are_sown_under_the_names_of_the_methods():
    class Twice(nnx.Module):
        def __init__(self) -> None:
            self.linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))

        def helper(self, x: Any) -> Any:
            return self._hidden(x)

        def _hidden(self, x: Any) -> Any:
            return 2 * x

        @staticmethod
        def half(x: Any) -> Any:
            return x / 2

        def __call__(self, x: Any) -> Any:
            return self.half(self.helper(self.linear(x)))

    model, x = Twice(), jnp.ones((1, 2))
    original = Twice.helper
    out, sown = nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate)(x)
    assert {path for path, _ in nnx.to_flat_state(sown)} == {
        ("__call__",),
        ("helper",),
        ("linear", "__call__"),
    }
    np.testing.assert_array_equal(sown["__call__"][0], out)
    np.testing.assert_array_equal(sown.helper[0], 2 * out)
    assert Twice.helper is original
    assert set(vars(model)) == {"linear"}


def test_a_compiled_method_is_traced_anew_for_its_outputs():
    model = Model()
    _, plain = nnx.capture(model.fast, nnx.Intermediate)(1.0)
    _, sown = nnx.capture(model.fast, nnx.Intermediate, method_outputs=nnx.Intermediate)(1.0)
    _, again = nnx.capture(model.fast, nnx.Intermediate)(1.0)
    assert "features" not in plain
    assert "features" in sown
    assert "features" not in again


def test_modules_are_as_before_after_an_error():
    class Failing(nnx.Module):
        def __call__(self) -> None:
            raise RuntimeError("no")

    model = Failing()
    method = Failing.__call__
    with pytest.raises(RuntimeError, match="no"):
        nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate)()
    assert not vars(model)
    assert Failing.__call__ is method
    assert not model._marks


def test_a_call_without_a_module_is_an_error():
    with pytest.raises(TypeError, match="none of which is a module in the first place"):
        nnx.capture(lambda x: x, nnx.Intermediate)(1.0)

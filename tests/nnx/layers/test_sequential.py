from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


def test_it_applies_its_layers_in_order() -> None:
    rngs = nnx.Rngs(0)
    first, second = nnx.Linear(2, 3, rngs=rngs), nnx.Linear(3, 1, rngs=rngs)
    x = jnp.ones((4, 2))
    np.testing.assert_array_equal(nnx.Sequential(first, jnp.tanh, second)(x), second(jnp.tanh(first(x))))


def test_its_layers_are_a_list_that_can_be_changed() -> None:
    model = nnx.Sequential(nnx.relu, nnx.tanh)
    model.layers.append(lambda x: x + 1)
    model.layers[1] = nnx.identity
    assert list(model.layers)[:2] == [nnx.relu, nnx.identity]
    assert len(model.layers) == 3
    assert float(model(jnp.array(-2.0))) == 1.0


def test_state_has_a_path_for_each_layer_with_state() -> None:
    model = nnx.Sequential(nnx.relu, nnx.Linear(2, 3, use_bias=False, rngs=nnx.Rngs(0)))
    assert [path for path, _ in nnx.to_flat_state(nnx.state(model))] == [("layers", 1, "kernel")]


def test_tuples_and_dicts_are_spread_over_the_arguments() -> None:
    def combine(a: Any, b: Any) -> dict[str, Any]:
        return {"x": a - b, "y": b}

    model = nnx.Sequential(lambda x, scale=1.0: (x, x * scale), combine, lambda x, y: x + 2 * y)
    assert model(2.0, scale=3.0) == 2.0 - 6.0 + 12.0


def test_rngs_go_to_those_that_take_them_and_leave_dicts_alone() -> None:
    seen = {}

    def keep(x: Any) -> dict[str, Any]:
        seen["output"] = {"x": x}
        return seen["output"]

    def draw(*, x: Any, rngs: nnx.Rngs) -> Any:
        return x + jax.random.normal(rngs.noise(), ())

    model = nnx.Sequential(keep, draw, nnx.Dropout(0.5), lambda x: x)
    y = model(jnp.zeros(()), rngs=nnx.Rngs(0))
    rngs = nnx.Rngs(0)
    np.testing.assert_array_equal(y, nnx.Dropout(0.5)(draw(x=jnp.zeros(()), rngs=rngs), rngs=rngs))
    assert list(seen["output"]) == ["x"]


def test_without_layers_it_returns_its_arguments() -> None:
    empty = nnx.Sequential()
    assert empty(1) == 1
    assert empty(1, 2) == (1, 2)
    assert empty(a=1) == {"a": 1}
    assert empty() is None


@pytest.mark.parametrize("given", [[nnx.relu], 3, None])
def test_what_cannot_be_called_is_refused(given: Any) -> None:
    with pytest.raises(
        TypeError, match=r"Sequential: got a \w+ as argument 1, expected a module or a function\. Pass the"
    ):
        nnx.Sequential(nnx.relu, given)


def test_what_cannot_be_called_is_found_at_the_call_when_it_was_put_in_later() -> None:
    model = nnx.Dict(body=nnx.Sequential(nnx.relu, nnx.relu))
    model.body.layers[1] = "relu"
    with pytest.raises(
        TypeError, match=r"Sequential 'body': got a str as layers\[1\], expected a module or a"
    ):
        model.body(jnp.ones(2))


def test_functions_that_do_not_tell_their_parameters_get_no_rngs() -> None:
    assert nnx.Sequential(max)([1, 3], rngs=nnx.Rngs(0)) == 3


def test_a_class_in_place_of_a_layer_is_told():
    with pytest.raises(
        TypeError, match=r"got the class Linear as argument 1, expected a module of that class"
    ):
        nnx.Sequential(nnx.relu, nnx.Linear)

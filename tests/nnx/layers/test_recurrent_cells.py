from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx
from easyflax.nnx.layers.recurrent_cells import modified_orthogonal

CELLS = [nnx.SimpleCell, nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell]


def _x(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("residual", [False, True])
def test_the_simple_cell_is_its_formula(residual: bool) -> None:
    cell = nnx.SimpleCell(3, 4, residual=residual, rngs=nnx.Rngs(0), bias_init=nnx.initializers.normal())
    x, h = _x(2, 3), _x(2, 4)
    inner = x @ cell.dense_i.kernel[...] + cell.dense_i.bias[...] + h @ cell.dense_h.kernel[...]
    carry, y = cell(jnp.asarray(h), x)
    np.testing.assert_allclose(carry, np.tanh(inner + h * residual), rtol=1e-5)
    assert y is carry


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_orthogonal_matrices_are_made_in_any_floating_dtype(dtype: Any) -> None:
    q = modified_orthogonal(jax.random.key(0), (4, 4), dtype)
    assert q.dtype == dtype
    np.testing.assert_allclose(np.float32(q.T @ q), np.eye(4), atol=3e-2)


@pytest.mark.parametrize("Cell", CELLS)
def test_cells_can_be_made_and_run_in_half_precision(Cell: Any) -> None:
    cell = Cell(3, 4, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(cell, nnx.Param))} == {jnp.dtype("bfloat16")}
    carry, y = cell(cell.initialize_carry((2, 3), nnx.Rngs(0)), jnp.ones((2, 3), jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves((carry, y))} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("Cell", CELLS)
def test_the_first_carry_has_the_batch_axes_of_the_input_and_the_dtype_of_the_parameters(Cell: Any) -> None:
    cell = Cell(3, 4, param_dtype=jnp.float16, rngs=nnx.Rngs(0))
    for shape in [(3,), (2, 3), [5, 2, 3]]:
        carry = cell.initialize_carry(shape, nnx.Rngs(0), carry_init=nnx.initializers.ones)
        for leaf in jax.tree.leaves(carry):
            assert leaf.tolist() == np.ones((*shape[:-1], 4)).tolist()
            assert leaf.dtype == jnp.float16


@pytest.mark.parametrize("Cell", CELLS)
def test_a_carry_without_batch_axes_broadcasts_in_a_single_step(Cell: Any) -> None:
    cell = Cell(3, 4, rngs=nnx.Rngs(0))
    one = cell.initialize_carry((3,), nnx.Rngs(0), nnx.initializers.ones)
    many = cell.initialize_carry((2, 3), nnx.Rngs(0), nnx.initializers.ones)
    x = jnp.asarray(_x(2, 3))
    np.testing.assert_allclose(cell(one, x)[1], cell(many, x)[1], rtol=1e-6)


@pytest.mark.parametrize("Cell", CELLS)
def test_cells_work_under_transforms(Cell: Any) -> None:
    cell = Cell(3, 4, rngs=nnx.Rngs(0))
    x = jnp.asarray(_x(5, 2, 3))
    carry = cell.initialize_carry((5, 2, 3), nnx.Rngs(0), nnx.initializers.normal())
    expected = cell(carry, x)[1]
    np.testing.assert_allclose(nnx.jit(lambda cell, c, x: cell(c, x)[1])(cell, carry, x), expected, rtol=1e-5)
    rows = nnx.vmap(lambda cell, c, x: cell(c, x)[1], in_axes=(None, 0, 0))(cell, carry, x)
    np.testing.assert_allclose(rows, expected, rtol=1e-5)
    copy = nnx.merge(*nnx.split(cell))
    np.testing.assert_array_equal(copy(carry, x)[1], expected)
    abstract = nnx.eval_shape(lambda: Cell(3, 4, rngs=nnx.Rngs(0)))
    assert jax.tree.map(jnp.shape, nnx.state(abstract)) == jax.tree.map(jnp.shape, nnx.state(cell))


# -- bad input


class Model(nnx.Module):
    def __init__(self, cell: Any) -> None:
        self.cells = [cell]

    def __call__(self, carry: Any, x: Any) -> Any:
        return self.cells[0](carry, x)


def test_wrong_features_of_the_input_are_told_with_the_path_of_the_cell() -> None:
    model = Model(nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"LSTMCell 'cells\.0': got an input of shape \(2, 5\) with 5 feat"):
        model((jnp.ones((2, 4)),) * 2, jnp.ones((2, 5)))


@pytest.mark.parametrize(
    ("carry", "told"),
    [
        (np.ones((2, 4)), r"ndarray of shape \(2, 4\)"),
        (np.ones(()), r"ndarray of shape \(\)"),
        (None, "None"),
        ((np.ones((2, 4)),), r"\(\(2, 4\),\)"),
        ((np.ones((2, 4)),) * 3, r"\(\(2, 4\), \(2, 4\), \(2, 4\)\)"),
        ((np.ones((2, 4)), np.ones((2, 5))), r"\(\(2, 4\), \(2, 5\)\)"),
        ((np.ones((3, 4)), np.ones((2, 4))), r"\(\(3, 4\), \(2, 4\)\)"),
        ((np.ones(()), np.ones(4)), r"\(\(\), \(4,\)\)"),
        ({"c": np.ones((2, 4)), "h": np.ones((2, 4))}, r"\{'c': \(2, 4\), 'h': \(2, 4\)\}"),
    ],
)
def test_a_carry_of_the_wrong_structure_or_shape_is_told_with_what_is_expected(carry: Any, told: str) -> None:
    model = Model(nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0)))
    form = rf"LSTMCell 'cells\.0': got .*{told} as carry for an input of shape \(2, 3\), expected a tuple"
    with pytest.raises(
        ValueError, match=form + r" \(c, h\) of shape \(2, 4\)\.\nMake it with cell\.initialize_carry"
    ):
        model(carry, jnp.ones((2, 3)))


def test_a_pair_is_no_carry_of_a_cell_with_one_hidden_state() -> None:
    cell = nnx.GRUCell(3, 4, rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"GRUCell: got shapes \(\(2, 4\), \(2, 4\)\) .* expected one array h"
    ):
        cell((jnp.ones((2, 4)), jnp.ones((2, 4))), jnp.ones((2, 3)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "shape", [7, jnp.ones((2, 3)), nnx.Rngs(0), (2.0, 3), None], ids=lambda shape: type(shape).__name__
)
def test_what_is_no_shape_is_refused_as_input_shape(shape: Any) -> None:
    cell = nnx.GRUCell(3, 4, rngs=nnx.Rngs(0))
    with pytest.raises(
        TypeError, match=r"GRUCell: got input_shape of type .*, expected the shape of the input"
    ):
        cell.initialize_carry(shape, nnx.Rngs(0))


@pytest.mark.parametrize("shape", [(), (-1, 3)])
def test_an_input_shape_has_features_and_no_negative_sizes(shape: Any) -> None:
    cell = nnx.GRUCell(3, 4, rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"GRUCell: got input_shape=\(.*\), expected 1 or more sizes, \(\.\.\., 3\)"
    ):
        cell.initialize_carry(shape, nnx.Rngs(0))


def test_missing_and_wrong_rngs_for_the_carry_are_told() -> None:
    cell = nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"LSTMCell: got no rngs, expected random keys for the carry\. Pass"):
        cell.initialize_carry((2, 3))
    with pytest.raises(AttributeError, match=r"LSTMCell: .*'carry'.*\['params'\]"):
        cell.initialize_carry((2, 3), nnx.Rngs(params=0))
    for rngs in (0, jax.random.key(0)):
        with pytest.raises(TypeError, match=r"LSTMCell: got rngs of type .*, expected nnx\.Rngs or an"):
            cell.initialize_carry((2, 3), rngs)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="keep_rngs"), pytest.raises(AttributeError, match="'carry'"):
        nnx.GRUCell(3, 4, keep_rngs=True, rngs=nnx.Rngs(params=0))


@pytest.mark.parametrize("Cell", CELLS)
def test_sizes_and_rngs_are_checked_when_a_cell_is_made(Cell: Any) -> None:
    name = Cell.__name__
    with pytest.raises(ValueError, match=f"{name}: got hidden_features=0, expected a positive integer"):
        Cell(3, 0, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=f"{name}: got in_features=2.5 of type float"):
        Cell(2.5, 3, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=f"{name}: got rngs of type int, expected nnx"):
        Cell(2, 3, rngs=0)


def test_the_base_class_says_what_a_cell_must_define() -> None:
    class Cell(nnx.RNNCellBase):
        pass

    with pytest.raises(NotImplementedError, match="Cell must define initialize_carry"):
        Cell().initialize_carry((2, 3))
    with pytest.raises(NotImplementedError, match="Cell must define __call__"):
        Cell()(None, jnp.ones(3))
    with pytest.raises(NotImplementedError, match="Cell must define num_feature_axes"):
        nnx.RNN(Cell())(jnp.ones((2, 3)))

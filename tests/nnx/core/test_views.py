import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(2, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.drop(self.norm(self.linear(x)))


class Switch(nnx.Module):
    on = False

    def set_view(self, on: bool | None = None, level: int = 3, **kwargs: object) -> None:
        """Turns it on.

        Args:
            on: True is on,
              False is off.
            level (optional): how much.

        Returns:
            nothing: really
        """
        if on is not None:
            self.on = on


class Plain(nnx.Module):
    def set_view(self, speed: int, *, high=None):  # type: ignore[no-untyped-def]
        self.speed = speed


def test_a_view_has_other_modes_and_the_same_variables():
    model = Block(nnx.Rngs(0))
    testing = nnx.view(model, deterministic=True, use_running_average=True)
    assert (testing.drop.deterministic, testing.norm.use_running_average) == (True, True)
    assert (model.drop.deterministic, model.norm.use_running_average) == (False, False)
    assert testing.linear is not model.linear
    assert testing.linear.kernel is model.linear.kernel
    assert testing.drop.rngs is not None
    assert model.drop.rngs is not None
    assert testing.drop.rngs.count is model.drop.rngs.count


def test_changes_by_one_view_are_seen_by_the_others():
    model = Block(nnx.Rngs(0))
    training, testing = nnx.view(model, deterministic=False), nnx.view(model, use_running_average=True)

    @nnx.jit
    def step(model: Block, x: jax.Array) -> jax.Array:
        return model(x)

    step(training, jnp.arange(8.0).reshape(4, 2))
    assert np.asarray(testing.norm.mean[...]).any()
    np.testing.assert_array_equal(model.norm.mean[...], testing.norm.mean[...])


def test_a_view_selects_modules_by_filter_and_keeps_sharing_and_cycles():
    model = Block(nnx.Rngs(0))
    model.again, model.itself = model.drop, model  # type: ignore[attr-defined]
    new = nnx.view(model, only=nnx.Dropout, deterministic=True)
    assert new.drop.deterministic
    assert new.again is new.drop
    assert new.itself is new
    assert not nnx.view([model], only=nnx.BatchNorm, deterministic=False, raise_if_not_found=False)[
        0
    ].drop.deterministic


def test_a_view_in_a_transform_reads_a_module_from_outside():
    model = Block(nnx.Rngs(0))
    model.norm.use_running_average = True
    x = jnp.ones((1, 2))
    out = jax.jit(lambda x: nnx.view(model, deterministic=True)(x))(x)
    np.testing.assert_allclose(out, nnx.view(model, deterministic=True)(x), rtol=1e-6)


def test_a_view_passes_each_module_what_its_set_view_takes():
    model = nnx.List([Switch(), nnx.Dropout(0.5)])
    new = nnx.view(model, on=True, whatever=1)
    assert new[0].on
    assert not model[0].on
    assert not nnx.view(model, deterministic=True)[0].on


def test_an_unused_keyword_is_an_error_that_lists_the_known_ones():
    model = Block(nnx.Rngs(0))
    known = r"Block take \['deterministic', 'use_running_average'\]"
    with pytest.raises(ValueError, match=rf"Unused keys found in nnx.view: \['decode'\].*{known}"):
        nnx.view(model, deterministic=True, decode=True)
    assert nnx.view(model, deterministic=True, decode=True, raise_if_not_found=False).drop.deterministic


def test_view_info_shows_signatures_and_documentation_by_class():
    info = nnx.view_info([Switch(), Block(nnx.Rngs(0)), Block(nnx.Rngs(1)), Plain()])
    assert info.splitlines() == [
        "BatchNorm:",
        "  use_running_average: bool | None = None",
        "    True normalises by the running averages, False by those of the batch.",
        "Dropout:",
        "  deterministic: bool | None = None",
        "    True returns inputs as they are, False drops entries.",
        "Plain:",
        "  set_view(self, speed: int, *, high=None)",
        "Switch:",
        "  on: bool | None = None",
        "    True is on,",
        "    False is off.",
        "  level: int = 3",
        "    how much.",
    ]
    assert nnx.view_info(Block(nnx.Rngs(0)), only=nnx.Dropout).startswith("Dropout:")
    assert nnx.view_info(nnx.Linear(2, 3, rngs=nnx.Rngs(0))) == ""


def test_with_attributes_leaves_the_module_as_it_is():
    model = Block(nnx.Rngs(0))
    new = nnx.with_attributes(model, deterministic=True, rate=0.25)
    assert (new.drop.deterministic, new.drop.rate) == (True, 0.25)
    assert (model.drop.deterministic, model.drop.rate) == (False, 0.5)
    assert new.linear.kernel is model.linear.kernel
    only = nnx.with_attributes(model, only=nnx.BatchNorm, epsilon=1.0)
    assert (only.norm.epsilon, only.drop.rate) == (1.0, 0.5)


def test_with_attributes_counts_what_is_set_on_the_class():
    assert nnx.with_attributes(Switch(), on=True).on is True


def test_with_attributes_lists_the_known_names():
    with pytest.raises(ValueError, match=r"\['unknown'\].*'deterministic', .*'rate'"):
        nnx.with_attributes(Block(nnx.Rngs(0)), unknown=True)
    assert nnx.with_attributes(nnx.Dropout(0.5), unknown=1, raise_if_not_found=False).rate == 0.5

"""`nnx.jit` with shardings, and `nnx.jit_partial`."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from easyflax import nnx

MESH = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def named(*spec):
    return NamedSharding(MESH, P(*spec))


def lies_as(value, *spec):
    return value.sharding.is_equivalent_to(named(*spec), value.ndim)


def is_on_one_device(value):
    return len(value.sharding.device_set) == 1


SHARDING = nnx.StateSharding(
    {nnx.PathContains("kernel"): named("data", "model"), nnx.PathContains("bias"): named("model")}
)


def make_linear(**options):
    return nnx.Linear(8, 16, rngs=nnx.Rngs(0), **options)


class Counter(nnx.Module):
    def __init__(self):
        self.linear = make_linear()
        self.calls = nnx.Cache(jnp.array(0))

    def __call__(self, x):
        self.calls += 1
        return self.linear(x)


def test_a_state_sharding_places_the_variables_of_an_argument():
    linear = make_linear()

    @nnx.jit(in_shardings=(SHARDING,))
    def place(linear):
        pass

    place(linear)
    assert lies_as(linear.kernel, "data", "model")
    assert lies_as(linear.bias, "model")


def test_one_sharding_is_for_all_variables_and_all_arguments():
    linear = make_linear()
    forward = nnx.jit(lambda linear, x: linear(x), in_shardings=named())
    forward(linear, jnp.ones((4, 8)))
    assert lies_as(linear.kernel)
    assert not is_on_one_device(linear.kernel)


def test_a_state_of_shardings_gives_each_variable_its_own():
    with nnx.use_eager_sharding(False):
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("data", "model"))
        linear = make_linear(kernel_init=init)
    shardings = nnx.get_named_sharding(nnx.state(linear), MESH)
    for given in (shardings, nnx.StateSharding(shardings)):
        copy = nnx.clone(linear)
        nnx.jit(lambda linear: None, in_shardings=(given,))(copy)
        assert lies_as(copy.kernel, "data", "model")
        assert lies_as(copy.bias)
    plain = nnx.State({"kernel": named("data"), "bias": None})
    other = make_linear()
    nnx.jit(lambda linear: None, in_shardings=(plain,))(other)
    assert lies_as(other.kernel, "data")
    placed = nnx.jit(lambda state: state, in_shardings=(shardings,))(nnx.state(linear))
    assert lies_as(placed["kernel"], "data", "model")


def test_arrays_and_trees_have_shardings_of_their_own():
    counter = Counter()

    @nnx.jit(
        in_shardings=((None, {"x": named("data")}), named("model")), out_shardings=(named("model"), None)
    )
    def f(pair, y):
        counter, batch = pair
        return counter(batch["x"])[0], y

    out, y = f((counter, {"x": jnp.ones((4, 8))}), jnp.ones(4))
    assert lies_as(out, "model")
    assert lies_as(y, "model")
    assert counter.calls == 1
    assert is_on_one_device(counter.linear.kernel)
    with pytest.raises(ValueError, match=r"different types|prefix|Expected tuple"):
        f(3, jnp.ones(4))


def test_a_partition_spec_is_for_the_active_mesh():
    linear = make_linear()
    forward = nnx.jit(
        lambda linear, x: linear(x), in_shardings=(P(), P("data")), out_shardings=P("data", "model")
    )
    x = jnp.ones((4, 8))
    with jax.set_mesh(MESH):
        assert lies_as(forward(linear, x), "data", "model")


def test_changes_new_variables_and_new_attributes_are_carried_out():
    linear = make_linear()
    kernel = linear.kernel.value

    @nnx.jit(in_shardings=(nnx.StateSharding({**SHARDING, ...: None}), None))
    def change(linear, x):
        linear.kernel[...] = 2 * linear.kernel
        linear.extra_bias = nnx.Param(x)
        linear.name = "changed"

    change(linear, jnp.ones(4))
    assert lies_as(linear.kernel, "data", "model")
    assert (linear.kernel.value == 2 * kernel).all()
    assert linear.extra_bias.value.tolist() == [1] * 4
    assert linear.name == "changed"
    del linear.extra_bias
    change(linear, jnp.ones(8))
    assert (linear.kernel.value == 4 * kernel).all()


def test_a_module_is_made_with_the_shardings_of_the_output():
    @nnx.jit(out_shardings=(SHARDING, None))
    def make(seed):
        linear = nnx.Linear(8, 16, rngs=nnx.Rngs(0))
        return linear, seed + 1

    linear, seed = make(jnp.array(0))
    assert lies_as(linear.kernel, "data", "model")
    assert lies_as(linear.bias, "model")
    assert seed == 1


def test_an_argument_without_a_sharding_takes_that_of_the_output_that_it_is():
    linear = make_linear()
    same = nnx.jit(lambda linear, x: linear, out_shardings=SHARDING)(linear, x=jnp.ones(1))
    assert same is linear
    assert lies_as(linear.kernel, "data", "model")


@pytest.mark.slow
def test_model_and_optimizer_are_trained_with_shardings_and_donation():
    model = Counter()
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    reference = nnx.clone((model, optimizer), arrays=True)
    by_path = nnx.StateSharding({nnx.PathContains("kernel"): named("data", "model"), ...: named()})

    def step(model, optimizer, x):
        loss, grads = nnx.value_and_grad(lambda model: (model(x) ** 2).mean())(model)
        optimizer.update(model, grads)
        return loss

    sharded = nnx.jit(step, in_shardings=(by_path, by_path, named("data")), donate_argnums=(0, 1))
    old = model.linear.kernel.value
    for _ in range(2):
        loss = sharded(model, optimizer, x=jnp.ones((4, 8)))
        expected = step(*reference, jnp.ones((4, 8)))
    assert jnp.allclose(loss, expected, rtol=1e-5)
    assert jnp.allclose(model.linear.kernel.value, reference[0].linear.kernel.value, rtol=1e-5)
    assert lies_as(model.linear.kernel, "data", "model")
    assert lies_as(optimizer.opt_state[0].mu["linear"]["kernel"], "data", "model")
    assert model.calls == 2
    assert not old.is_deleted()  # it lay on one device, and was copied to the mesh


def test_shared_variables_are_placed_once_and_must_agree():
    linear = make_linear()
    equal = nnx.StateSharding({nnx.Param: named("data")})
    nnx.jit(lambda *modules: None, in_shardings=(named("data"), equal, None))(linear, linear, linear)
    assert lies_as(linear.kernel, "data")
    with pytest.raises(
        ValueError, match=r"the same Param has sharding .*'data'.* in argument 0, .* in argument 1"
    ):
        nnx.jit(lambda *modules: None, in_shardings=(named("data"), named()))(linear, linear)


@pytest.mark.parametrize("entries", [2, 3])
def test_static_arguments_need_no_sharding_but_may_have_an_entry(entries):
    f = nnx.jit(
        lambda x, scale, use_relu: (jnp.maximum(x, 0) if use_relu else x) * scale,
        in_shardings=(named("data"), None, None)[:entries],
        static_argnums=(2,),
    )
    x = jnp.linspace(-1.0, 1.0, 16).reshape(4, 4)
    assert (f(x, 0.5, True) == jnp.maximum(x, 0) * 0.5).all()
    assert (f(x, 0.5, use_relu=False) == x * 0.5).all()
    assert lies_as(f(x, 0.5, True), "data")


def test_methods_count_their_module_when_decorated_and_not_when_bound():
    class Model(nnx.Module):
        def __init__(self):
            self.linear = make_linear()

        @nnx.jit(in_shardings=(named(), named("data")))
        def decorated(self, x):
            return self.linear(x)

        def plain(self, x):
            return self.linear(x)

    model = Model()
    x = jnp.ones((4, 8))
    assert lies_as(model.decorated(x), "data")
    assert not is_on_one_device(model.linear.kernel)
    assert lies_as(nnx.jit(model.plain, in_shardings=(named("data"),))(x), "data")


def test_it_traces_once_for_a_structure_and_serves_several():
    traces = []

    @nnx.jit(in_shardings=(named(), None))
    def f(module, x):
        traces.append(1)
        return module(x)

    for _ in range(3):
        f(make_linear(), jnp.ones((4, 8)))
    assert len(traces) == 1
    f(Counter(), jnp.ones((4, 8)))
    assert len(traces) == 2


def test_lowering_and_compiling_ahead_of_time_keep_the_shardings():
    counter = Counter()
    compiled = nnx.jit(
        lambda counter, x: counter(x), in_shardings=(named(), named("data")), out_shardings=named("data")
    )
    compiled = compiled.lower(counter, jnp.ones((4, 8))).compile()
    nnx.update(counter, jax.device_put(nnx.state(counter), named()))
    out = compiled(counter, jax.device_put(jnp.ones((4, 8)), named("data")))
    assert lies_as(out, "data")
    assert counter.calls == 1


def test_the_number_of_arguments_may_differ_and_must_fit():
    total = nnx.jit(lambda *xs: sum(xs), in_shardings=named())
    assert total(jnp.ones(8)).tolist() == [1] * 8
    assert total(jnp.ones(8), jnp.ones(8)).tolist() == [2] * 8
    with pytest.raises(ValueError, match="in_shardings of length 1 for 2 positional arguments"):
        nnx.jit(lambda *xs: sum(xs), in_shardings=(named(),))(jnp.ones(8), jnp.ones(8))
    with pytest.raises(
        TypeError, match=r"in_shardings got the keyword arguments \['y'\].*Make them positional"
    ):
        nnx.jit(lambda x, *, y: x + y, in_shardings=(named(),))(jnp.ones(8), y=1)


def test_a_sharding_that_does_not_fit_names_the_variable():
    linear = nnx.Linear(8, 6, rngs=nnx.Rngs(0))
    place = nnx.jit(lambda linear, x: None, in_shardings=(SHARDING, None))
    pattern = r"with P.*\('model',?\) for argument 0, 'bias' of shape \(6,\), but axis 0 .*no multiple"
    with pytest.raises(ValueError, match=pattern):
        place(linear, 1)
    with pytest.raises(ValueError, match=r"(?s)for argument 0 of shape \(4,\), but it names 2 axes"):
        nnx.jit(lambda x: x, in_shardings=named(None, "data"))(jnp.ones(4))
    with (
        jax.set_mesh(MESH),
        pytest.raises(ValueError, match=r"(?s)argument 0.*'rows' is not an axis of the mesh"),
    ):
        nnx.jit(lambda x: x, in_shardings=P("rows"))(jnp.ones(4))
    with pytest.raises(ValueError, match=r"(?s)for argument 0, but no mesh is active.*set_mesh"):
        nnx.jit(lambda x: x, in_shardings=P("data"))(jnp.ones(4))


def test_a_variable_that_lies_otherwise_already_is_named():
    linear = make_linear()
    nnx.jit(lambda linear: None, in_shardings=named("data"))(linear)
    with pytest.raises(
        ValueError, match=r"argument 0, 'bias', which lies on its devices as .* move it first"
    ):
        nnx.jit(lambda linear: None, in_shardings=named("model"))(linear)


def test_modules_and_variables_are_no_shardings():
    with pytest.raises(
        ValueError, match=r"in_shardings of nnx\.jit has a Linear, expected shardings: graph nodes"
    ):
        nnx.jit(lambda linear: None, in_shardings=(make_linear(),))
    with pytest.raises(
        ValueError, match=r"out_shardings of nnx\.jit has a Param, expected .*Pass nnx\.StateSharding"
    ):
        nnx.jit(lambda linear: None, out_shardings=nnx.Param(named()))


def test_a_state_sharding_without_a_filter_for_a_variable_names_it():
    place = nnx.jit(lambda counter: None, in_shardings=(SHARDING,))
    with pytest.raises(ValueError, match="StateSharding has no filter for the Cache at 'calls'"):
        place(Counter())


def test_errors_of_the_function_itself_come_through():
    @nnx.jit(in_shardings=named())
    def f(x):
        raise ValueError("my own")

    with pytest.raises(ValueError, match="my own"):
        f(jnp.ones(4))


def test_state_shardings_compare_by_value_and_show_what_they_hold():
    again = nnx.StateSharding([(nnx.PathContains("kernel"), named("data"))])
    assert again == nnx.StateSharding({nnx.PathContains("kernel"): named("data")})
    assert hash(again) == hash(nnx.StateSharding({nnx.PathContains("kernel"): named("data")}))
    assert again != nnx.StateAxes({nnx.PathContains("kernel"): named("data")})
    assert again.shardings == (named("data"),)
    assert again.map_prefix(("kernel",), None) == named("data")
    assert repr(again).startswith("StateSharding({PathContains(")


@pytest.mark.filterwarnings("ignore:backend and device argument:DeprecationWarning")
def test_a_backend_a_device_and_options_of_the_compiler_can_be_chosen():
    linear = make_linear()
    on_last = nnx.jit(lambda linear, x: linear(x), device=jax.devices()[-1])
    assert on_last(linear, jnp.ones((4, 8))).devices() == {jax.devices()[-1]}
    assert nnx.jit(lambda x: x + 1, backend="cpu", compiler_options={})(jnp.ones(2)).tolist() == [2, 2]


# -- jit_partial


def test_jit_partial_binds_modules_and_carries_changes_out():
    counter = Counter()
    forward = nnx.jit_partial(lambda counter, x: counter(x), counter)
    assert forward(jnp.ones((4, 8))).shape == (4, 16)
    counter.linear.bias[...] += 1
    assert jnp.allclose(forward(x=jnp.ones((4, 8))), counter.linear(jnp.ones((4, 8))), rtol=1e-5)
    assert counter.calls == 2


def test_jit_partial_counts_what_is_bound_as_argument_0():
    model = Counter()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)

    def step(model, optimizer, x, negate):
        loss, grads = nnx.value_and_grad(lambda model: (model(x) ** 2).mean())(model)
        optimizer.update(model, grads)
        return -loss if negate else loss

    step = nnx.jit_partial(step, model, optimizer, donate_argnums=0, static_argnums=2)
    old = model.linear.kernel.value, optimizer.step.value
    assert step(jnp.ones((4, 8)), True) < 0 < step(jnp.ones((4, 8)), False)
    assert all(array.is_deleted() for array in old)
    assert model.calls == 2


def test_jit_partial_takes_shardings_for_all_arguments():
    counter = Counter()
    sharding = nnx.StateSharding({nnx.Param: named(), ...: None})
    forward = nnx.jit_partial(
        lambda counter, x: counter(x), counter, in_shardings=(sharding, named("data")), out_shardings=named()
    )
    assert lies_as(forward(jnp.ones((4, 8))))
    assert not is_on_one_device(counter.linear.kernel)
    assert counter.calls == 1


def test_jit_partial_is_a_method_behind_its_arguments():
    class Owner:
        scaled = nnx.jit_partial(lambda scale, self, x: scale * x, jnp.array(2.0), static_argnums=1)

    assert Owner().scaled(jnp.ones(2)).tolist() == [2, 2]

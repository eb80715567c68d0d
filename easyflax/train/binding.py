"""The user's module on one side, dicts of raw arrays on the other.

`Binding` takes a module apart into arrays by path and puts it together again inside a trace. During a fit the
arrays belong to the train state, which every step donates and replaces. The user's variables are *lent*
meanwhile: they hold no array that the next step could delete, and the first access to any of them makes
`Loan` hand copies of the current arrays back to all. So code in a callback always sees up-to-date weights,
and callbacks that do not look cost nothing.

    binding = Binding(module)
    loan = Loan(binding, layout, current=lambda: live_arrays)
    loan.lend()
    ...                           # a callback reads module.kernel: loan.fetch() runs
    changed = loan.take_back()    # what the callback replaced; the variables are lent again
    loan.close()                  # the variables get the final arrays for good
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import jax

import easyflax.nnx as nnx
from easyflax.distribution import DataParallel
from easyflax.interop.flax_nnx import refresh_mirrors, sync_mirrors
from easyflax.layers.calling import mode_arguments
from easyflax.layers.freezing import frozen_variables, set_mode
from easyflax.layers.layer import Layer
from easyflax.layers.loss_term import collecting_losses, loss_terms
from easyflax.layers.metric_term import metric_terms
from easyflax.layers.precision import call_in_precision, running_policy
from easyflax.layers.remat import RematScope
from easyflax.nnx.core.variables import give_back, lend

Arrays = dict[str, Any]


class Applied(NamedTuple):
    """What a call of a module gives.

    Attributes:
        output: what it returns.
        other: the variables that are not trained, as the call left them.
        losses: what the call adds to the loss, terms of any shape.
        sown: what it adds to the logs, scalars by name.
        then: what `then` returned.
    """

    output: Any
    other: Arrays
    losses: list[jax.Array]
    sown: dict[str, jax.Array]
    then: Any = None


class Binding:
    """A module taken apart: its structure, and its variables by path.

    Args:
        module: any NNX module; it is only read.
        inner: the attribute that holds what is called and what paths begin at, None for the module itself.
        remat: which calls compute their values again for the gradient, None for those that layers say.

    Attributes:
        graphdef: the static part; equal graphdefs mean that a compiled step can be used again.
        params: from path to the user's own variable, for every `nnx.Param` that is trained (see
            `easyflax.layers.freezing`).
        other: likewise for everything else: frozen parameters, other variables, and arrays that are plain
            attributes. Values that modules `sow` are left out: they belong to one call.
        takes_rngs: whether `apply` uses a key, for the argument `rngs=` of the module's `__call__`.
        mirrors: the modules in it that stand for modules of Flax.
    """

    def __init__(self, module: nnx.Module, inner: str | None = None, remat: RematScope | None = None):
        self._module = module
        self._inner = inner
        self._remat = remat
        self.mirrors = refresh_mirrors(module)
        self.graphdef, kept = _split_without_sown(module)
        self._paths = {self._name(path): path for path, _ in kept}
        frozen = frozen_variables(module)
        leaves = {self._name(path): leaf for path, leaf in kept}
        self.params = {
            name: leaf
            for name, leaf in leaves.items()
            if isinstance(leaf, nnx.Param) and id(leaf) not in frozen
        }
        self.other = {name: leaf for name, leaf in leaves.items() if name not in self.params}
        self.takes_rngs = _takes_rngs(self._called(module))

    def _name(self, path: tuple[Any, ...]) -> str:
        return path_name(path[1:] if path[0] == self._inner else path)

    def _called(self, module: Any) -> Any:
        return module if self._inner is None else vars(module)[self._inner]

    @property
    def frozen(self) -> dict[str, nnx.Param[Any]]:
        """The parameters that are not trained, by path."""
        return {name: leaf for name, leaf in self.other.items() if isinstance(leaf, nnx.Param)}

    @property
    def variables(self) -> dict[str, nnx.Variable[Any]]:
        """The user's variables by path, in the module's order, without plain arrays."""
        leaves = {**self.params, **self.other}
        return {name: leaves[name] for name in self._paths if isinstance(leaves[name], nnx.Variable)}

    def variables_by_path(self) -> list[tuple[tuple[Any, ...], nnx.Variable[Any]]]:
        """Returns the user's variables with their paths as tuples."""
        return [(self._paths[name], variable) for name, variable in self.variables.items()]

    def params_state(self) -> tuple[list[str], nnx.State]:
        """Returns `params` as a state, and their names in the order of its leaves."""
        state = nnx.from_flat_state([(self._paths[name], leaf) for name, leaf in self.params.items()])
        return [self._name(path) for path, _ in nnx.to_flat_state(state)], state

    def layer_paths(self) -> dict[str, str]:
        """Returns where the trained variables are in terms of layers, "dense_1/kernel", by path."""
        nodes = dict(nnx.iter_graph(self._module))
        return {name: _layer_path(nodes, self._paths[name], leaf) for name, leaf in self.params.items()}

    def arrays(self) -> tuple[Arrays, Arrays]:
        """Returns the current values of `params` and of `other`, not copied."""
        return _values(self.params), _values(self.other)

    def apply(
        self,
        params: Arrays,
        other: Arrays,
        x: Any,
        *,
        training: bool,
        key: jax.Array | None = None,
        then: Callable[[Any, Any], Any] | None = None,
    ) -> Applied:
        """Calls the module as a pure function, in training or inference mode.

        Args:
            params: values for `params`.
            other: values for `other`.
            x: the argument.
            training: the mode.
            key: see `call_in_mode`.
            then: called with the module (the whole one) and its output, before variables are read.

        Raises:
            ValueError: the call made a variable that was not there before.
        """
        module = self.rebuild({**params, **other})
        called = self._called(module)
        with collecting_losses(anew=False), self.rematerializing(module, training):
            call = partial(call_in_mode, called, training=training, key=key)
            output = call_in_precision(call, (x,), {}, casts_inputs=not _casts_inputs(called))
            result = None if then is None else then(module, output)
        before, other = other, self.values_in(module)[1]
        other = stored_like(other, before)
        return Applied(output, other, loss_terms(called), metric_terms(called), result)

    def rematerializing(self, module: Any, training: bool = True) -> AbstractContextManager[None]:
        """Has calls within a module that `rebuild` made compute values again as they should, in a block."""
        if self._remat is None or not training:
            return nullcontext()
        return self._remat.within(self._called(module))

    def values_in(self, module: Any) -> tuple[Arrays, Arrays]:
        """Returns the values of `params` and `other` that a module which `rebuild` made has by now.

        Raises:
            ValueError: it has a variable that was not there before.
        """
        state = nnx.state(module, nnx.Not(nnx.Intermediate))
        left = {self._name(path): leaf for path, leaf in nnx.to_flat_state(state)}
        self._check_nothing_new(left)
        params, other = ({name: left[name] for name in names} for names in (self.params, self.other))
        return _values(params), _values(other)

    def write(self, module: Any, values: Arrays) -> None:
        """Sets variables of a module that `rebuild` made, by path."""
        flat = [(self._paths[name], value) for name, value in values.items()]
        nnx.update(module, nnx.from_flat_state(flat))

    def params_in(self, module: Any) -> nnx.State:
        """Returns the trained variables of a module that `rebuild` made, nested like `params_state`."""
        nodes = dict(nnx.iter_graph(module))
        return nnx.from_flat_state([(self._paths[name], nodes[self._paths[name]]) for name in self.params])

    def rebuild(self, values: Arrays) -> nnx.Module:
        """Returns a new module with `values`, params and others by path."""
        leaves = {**self.params, **self.other}
        flat = [(path, _with_value(leaves[name], values[name])) for name, path in self._paths.items()]
        return nnx.merge(self.graphdef, nnx.from_flat_state(flat))

    def set_values(self, values: Arrays) -> None:
        """Sets the user's own variables, and arrays that are attributes without one, by path."""
        for name, value in values.items():
            leaf = {**self.params, **self.other}[name]
            if isinstance(leaf, nnx.Variable):
                leaf.set_raw_value(value)
        self.set_plain_arrays(values)

    def set_plain_arrays(self, values: Arrays) -> None:
        """Sets the arrays that are attributes without a variable; leaves other entries of `values` alone."""
        plain = [
            name for name, leaf in self.other.items() if name in values and not isinstance(leaf, nnx.Variable)
        ]
        if plain:
            state = nnx.from_flat_state([(self._paths[name], values[name]) for name in plain])
            nnx.update(self._module, state)
        self.sync()

    def sync(self) -> None:
        """Brings modules of Flax and their mirrors in step."""
        sync_mirrors(self.mirrors)

    def pull(self) -> None:
        """Takes over what was set in modules of Flax; that ends the loan if there is anything."""
        for mirror in self.mirrors:
            mirror.pull()

    def check_unchanged(self) -> None:
        """Raises if the module has other variables by now; costs little and fetches no values.

        Raises:
            ValueError: a variable was put in, taken out, replaced, frozen or unfrozen.
        """
        binding = Binding(self._module, self._inner)
        now, before = binding.variables, self.variables
        for name in {**before, **now}:
            if before.get(name) is not now.get(name):
                raise ValueError(
                    f"During fit {name!r} is another variable than when it began, expected the one of then, "
                    f"which is trained. In a callback set its value, as in module.kernel.value = ...; add, "
                    f"remove or replace variables between two calls of fit."
                )
        if changed := sorted(binding.params.keys() ^ self.params.keys()):
            how = "unfrozen" if changed[0] in binding.params else "frozen"
            raise ValueError(
                f"During fit {changed[0]!r} was {how}, expected what is trained to stay the same until its "
                f"end. Set trainable between two calls of fit: the second goes on where the first ended, "
                f"with initial_epoch=."
            )

    def _check_nothing_new(self, left: Arrays) -> None:
        """Raises if the call made a variable that ought to last; other new ones (sown values) are dropped."""
        kinds = nnx.Param | nnx.BatchStat | nnx.RngState
        new = [name for name, leaf in left.items() if name not in self._paths and isinstance(leaf, kinds)]
        if new:
            raise ValueError(
                f"Calling the module made the variable {new[0]!r} ({type(left[new[0]]).__name__}), expected "
                f"it to exist before. Make it in __init__, or call the module once on one batch first."
            )


class Loan:
    """Lends the variables of a `Binding` for the time of a fit; see the module's docstring.

    Args:
        binding: the module.
        layout: how the arrays lie on the devices.
        current: returns the live arrays, params and others in one dict.
    """

    def __init__(self, binding: Binding, layout: DataParallel, current: Callable[[], Arrays]):
        self._binding = binding
        self._variables = binding.variables
        self._layout = layout
        self._current = current
        self._handed_out: Arrays = {}
        self.is_out = False

    def lend(self) -> None:
        """Takes the values out of the user's variables."""
        self._handed_out = {}
        self.is_out = True
        lend(self._variables.values(), self)

    def fetch(self) -> None:
        """Gives every variable a copy of its current value; called at the first access to any of them."""
        # The access may come from inside a trace (a jitted function that closes over the module); the copies
        # are made outside of it all the same.
        with jax.ensure_compile_time_eval():
            self._hand_out(self._layout.copy_home(self._current_values()))

    def take_back(self) -> Arrays:
        """Returns what the user put into variables since they were handed out, and lends them again.

        Raises:
            ValueError: a new value has another shape than the variable had.
        """
        self._binding.sync()
        held = {name: variable.get_raw_value() for name, variable in self._variables.items()}
        changed = {name: value for name, value in held.items() if value is not self._handed_out[name]}
        checked = {name: _checked(name, value, self._handed_out[name]) for name, value in changed.items()}
        self.lend()
        return checked

    def close(self) -> None:
        """Gives the live arrays themselves to the variables, unless they are home already.

        Arrays that are plain attributes get their values only now: nothing tells when somebody reads them.
        """
        if self.is_out:
            self._hand_out(self._layout.bring_home(self._current_values()))
        self._binding.set_plain_arrays(self._layout.bring_home(self._current()))

    def _current_values(self) -> Arrays:
        current = self._current()
        return {name: current[name] for name in self._variables}

    def _hand_out(self, values: Arrays) -> None:
        self._handed_out = values
        self.is_out = False
        for name, variable in self._variables.items():
            give_back(variable, values[name])
        self._binding.sync()


def path_name(path: tuple[Any, ...]) -> str:
    """Returns the path as one string, joined by "."; within a part "." is written "~1" and "~" "~0"."""
    return ".".join(str(part).replace("~", "~0").replace(".", "~1") for part in path)


def _layer_path(nodes: Mapping[Any, Any], path: tuple[Any, ...], variable: nnx.Variable[Any]) -> str:
    """Returns a path in which layers go by their names, instead of by where they are held, as in Keras."""
    root_name = getattr(nodes[()], "_root_name", None)
    parts = [] if root_name is None else [root_name]
    held: list[str] = []  # names since the last one in `parts`
    for place in range(1, len(path)):
        held.append(str(path[place - 1]))
        node = nodes.get(path[:place])
        if isinstance(node, Layer):
            parts, held = [*parts, *([node.name] if node._is_in_paths else [])], []
        elif isinstance(node, nnx.Module) and not isinstance(node, nnx.List | nnx.Dict):
            parts, held = [*parts, *held], []
    return "/".join([*parts, *held, variable.get_metadata("name", None) or str(path[-1])])


def call_in_mode(module: Any, x: Any, *, training: bool, key: jax.Array | None = None) -> Any:
    """Calls `module(x)` in training or inference mode.

    The mode is set on all layers by `module.train()` or `module.eval()`, and passed as `training=`, `train=`
    or `deterministic=` where the module's `__call__` has such an argument. Random streams are passed as
    `rngs=` likewise, but not to layers of `nnx`, such as `nnx.Sequential`: these have streams of their own.

    Args:
        module: is changed by the call.
        x: the argument.
        training: the mode.
        key: of the random streams; a fixed one by default.
    """
    set_mode(module, training)
    given: dict[str, Any] = {**mode_arguments(module, training)}
    if _takes_rngs(module):
        given["rngs"] = nnx.Rngs(jax.random.key(0) if key is None else key)
    return module(x, **given)


def _casts_inputs(module: Any) -> bool:
    """Says whether it is a layer or a model, whose call casts the inputs itself."""
    call = type(module).__call__
    return getattr(call, "__module__", "").startswith(("easyflax.layers.", "easyflax.models."))


def stored_like(values: Arrays, before: Arrays) -> Arrays:
    """Returns what a step in some precision left in variables, in the dtypes that these had before."""
    return values if running_policy() is None else jax.tree.map(_in_dtype_of, values, before)


def _in_dtype_of(new: Any, old: Any) -> Any:
    return new if new is old or new.dtype == old.dtype else new.astype(old.dtype)


def _takes_rngs(module: Any) -> bool:
    call = type(module).__call__
    is_own = not getattr(call, "__module__", "").startswith("easyflax.nnx.")
    return is_own and "rngs" in inspect.signature(call).parameters


def _split_without_sown(module: nnx.Module) -> tuple[Any, list[tuple[tuple[Any, ...], Any]]]:
    """Returns structure and leaves of a module as if nothing had been sown in it."""
    graphdef, sown, kept = nnx.split(module, nnx.Intermediate, ...)
    if sown:
        bare = nnx.merge(graphdef, sown, kept)
        nnx.pop(bare, nnx.Intermediate)
        graphdef = nnx.graphdef(bare)
    return graphdef, list(nnx.to_flat_state(kept))


def _values(leaves: Arrays) -> Arrays:
    return {
        name: leaf.get_raw_value() if isinstance(leaf, nnx.Variable) else leaf
        for name, leaf in leaves.items()
    }


def _with_value(leaf: Any, value: Any) -> Any:
    return leaf.replace(value) if isinstance(leaf, nnx.Variable) else value


def _checked(name: str, value: Any, old: Any) -> Any:
    shapes, old_shapes = (jax.tree.map(jax.numpy.shape, tree) for tree in (value, old))
    if shapes != old_shapes:
        raise ValueError(
            f"A callback set the variable {name!r} to shape {shapes}, expected {old_shapes}. Keep the shape "
            f"during fit; change the model's structure between two calls of fit."
        )
    return jax.tree.map(lambda new, like: jax.numpy.asarray(new, like.dtype), value, old)

"""Neural-network modules for JAX with Python reference semantics, with the public interface of Flax NNX.

`README.md` in this folder says what is where and how it works.
"""

from __future__ import annotations

from easyflax.errors import TraceContextError
from easyflax.nnx import (
    filterlib,
    graph,
    graphlib,
    helpers,
    module,
    nn,
    object,
    pytreelib,
    rnglib,
    statelib,
    traversals,
    variablelib,
)
from easyflax.nnx.core import spmd
from easyflax.nnx.core.capture import (
    capture,
)
from easyflax.nnx.core.containers import (
    Dict,
    List,
)
from easyflax.nnx.core.contexts import (
    MergeContext,
    SplitContext,
    UpdateContext,
    current_update_context,
    merge_context,
    split_context,
    update_context,
)
from easyflax.nnx.core.dataclass import (
    check_pytree,
    dataclass,
    has_data,
)
from easyflax.nnx.core.deprecated_names import (
    __getattr__,  # noqa: F401
)
from easyflax.nnx.core.filters import (
    All,
    Any,
    Everything,
    Filter,
    Not,
    Nothing,
    OfType,
    PathContains,
    PathIn,
    WithTag,
    to_predicate,
)
from easyflax.nnx.core.flattening import (
    flatten,
    unflatten,
)
from easyflax.nnx.core.graph import (
    clone,
    graphdef,
    merge,
    pop,
    split,
    state,
    unpack,
    update,
    variables,
)
from easyflax.nnx.core.graph_calls import call
from easyflax.nnx.core.graph_maps import (
    as_pure,
    map,
    pure,
    recursive_map,
)
from easyflax.nnx.core.graph_state import (
    GraphState,
    PureState,
)
from easyflax.nnx.core.graphdef import (
    GraphDef,
)
from easyflax.nnx.core.iteration import (
    find_duplicates,
    iter_children,
    iter_graph,
    iter_module_children,
    iter_modules,
    set_metadata,
)
from easyflax.nnx.core.marks import (
    Data,
    Static,
    data,
    register_data_type,
    static,
)
from easyflax.nnx.core.module import (
    M,
    Module,
    Object,
    Pytree,
    first_from,
    is_data,
)
from easyflax.nnx.core.notebook import (
    display,
)
from easyflax.nnx.core.rng_splits import (
    fork_rngs,
    reseed,
    restore_rngs,
    split_rngs,
    with_rngs,
)
from easyflax.nnx.core.rngs import (
    RngCount,
    RngKey,
    Rngs,
    RngState,
    RngStream,
)
from easyflax.nnx.core.sharding import (
    logical_axis_rules,
    use_eager_sharding,
    using_eager_sharding,
)
from easyflax.nnx.core.spmd import (
    PARTITION_NAME,
    abstract_with_sharding,
    as_abstract,
    get_named_sharding,
    get_partition_spec,
    with_partitioning,
)
from easyflax.nnx.core.state import (
    FlatState,
    State,
    filter_state,
    from_flat_state,
    map_state,
    merge_state,
    replace_by_pure_dict,
    restore_int_paths,
    split_state,
    to_flat_state,
    to_pure_dict,
)
from easyflax.nnx.core.variable_names import (
    register_variable_name,
    variable_name_from_type,
    variable_type_from_name,
)
from easyflax.nnx.core.variables import (
    A,
    BatchStat,
    Cache,
    Intermediate,
    Param,
    Perturbation,
    Variable,
    VariableMetadata,
    with_metadata,
)
from easyflax.nnx.core.views import (
    view,
    view_info,
    with_attributes,
)
from easyflax.nnx.layers import (
    BatchNorm,
    Conv,
    ConvTranspose,
    Dropout,
    Embed,
    GroupNorm,
    Initializer,
    InstanceNorm,
    LayerNorm,
    Linear,
    LinearGeneral,
    PReLU,
    RMSNorm,
    Sequential,
    SpectralNorm,
    WeightNorm,
    avg_pool,
    celu,
    elu,
    gelu,
    glu,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    identity,
    initializers,
    leaky_relu,
    log1mexp,
    log_sigmoid,
    log_softmax,
    logmeanexp,
    logsumexp,
    max_pool,
    min_pool,
    mish,
    one_hot,
    pool,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_sign,
    softmax,
    softplus,
    sparse_plus,
    sparse_sigmoid,
    squareplus,
    standardize,
    swish,
    tanh,
)
from easyflax.nnx.training import (
    Accuracy,
    Average,
    Metric,
    MetricState,
    ModelAndOptimizer,
    MultiMetric,
    OptArray,
    Optimizer,
    OptState,
    OptVariable,
    Statistics,
    TrainState,
    Welford,
    metrics,
    optimizer,
)
from easyflax.nnx.transforms.autodiff import (
    DiffState,
    grad,
    value_and_grad,
)
from easyflax.nnx.transforms.axes import (
    Carry,
    StateAxes,
)
from easyflax.nnx.transforms.branches import (
    cond,
    switch,
)
from easyflax.nnx.transforms.cached_partial import (
    cached_partial,
)
from easyflax.nnx.transforms.checkify import (
    checkify,
)
from easyflax.nnx.transforms.custom_jvp import (
    custom_jvp,
)
from easyflax.nnx.transforms.custom_vjp import (
    custom_vjp,
)
from easyflax.nnx.transforms.eval_shape import (
    eval_shape,
    get_abstract_model,
)
from easyflax.nnx.transforms.jit import (
    jit,
)
from easyflax.nnx.transforms.jit_partial import jit_partial
from easyflax.nnx.transforms.loops import (
    fori_loop,
    while_loop,
)
from easyflax.nnx.transforms.make_jaxpr import (
    make_jaxpr,
)
from easyflax.nnx.transforms.metadata import (
    transform_metadata,
)
from easyflax.nnx.transforms.pmap import pmap
from easyflax.nnx.transforms.prefix import (
    prefix,
)
from easyflax.nnx.transforms.remat import (
    remat,
)
from easyflax.nnx.transforms.scan import (
    scan,
)
from easyflax.nnx.transforms.shard_map import shard_map
from easyflax.nnx.transforms.sharding import StateSharding
from easyflax.nnx.transforms.tabulate import (
    tabulate,
)
from easyflax.nnx.transforms.trees import (
    NodeStates,
    from_tree,
    to_tree,
)
from easyflax.nnx.transforms.vjp import (
    jvp,
    vjp,
)
from easyflax.nnx.transforms.vmap import (
    vmap,
)

__all__ = [
    "PARTITION_NAME",
    "A",
    "Accuracy",
    "All",
    "Any",
    "Average",
    "BatchNorm",
    "BatchStat",
    "Cache",
    "Carry",
    "Conv",
    "ConvTranspose",
    "Data",
    "Dict",
    "DiffState",
    "Dropout",
    "Embed",
    "Everything",
    "Filter",
    "FlatState",
    "GraphDef",
    "GraphState",
    "GroupNorm",
    "Initializer",
    "InstanceNorm",
    "Intermediate",
    "LayerNorm",
    "Linear",
    "LinearGeneral",
    "List",
    "M",
    "MergeContext",
    "Metric",
    "MetricState",
    "ModelAndOptimizer",
    "Module",
    "MultiMetric",
    "NodeStates",
    "Not",
    "Nothing",
    "Object",
    "OfType",
    "OptArray",
    "OptState",
    "OptVariable",
    "Optimizer",
    "PReLU",
    "Param",
    "PathContains",
    "PathIn",
    "Perturbation",
    "PureState",
    "Pytree",
    "RMSNorm",
    "RngCount",
    "RngKey",
    "RngState",
    "RngStream",
    "Rngs",
    "Sequential",
    "SpectralNorm",
    "SplitContext",
    "State",
    "StateAxes",
    "StateSharding",
    "Static",
    "Statistics",
    "TraceContextError",
    "TrainState",
    "UpdateContext",
    "Variable",
    "VariableMetadata",
    "WeightNorm",
    "Welford",
    "WithTag",
    "abstract_with_sharding",
    "as_abstract",
    "as_pure",
    "avg_pool",
    "cached_partial",
    "call",
    "capture",
    "celu",
    "check_pytree",
    "checkify",
    "clone",
    "cond",
    "current_update_context",
    "custom_jvp",
    "custom_vjp",
    "data",
    "dataclass",
    "display",
    "elu",
    "eval_shape",
    "filter_state",
    "filterlib",
    "find_duplicates",
    "first_from",
    "flatten",
    "fori_loop",
    "fork_rngs",
    "from_flat_state",
    "from_tree",
    "gelu",
    "get_abstract_model",
    "get_named_sharding",
    "get_partition_spec",
    "glu",
    "grad",
    "graph",
    "graphdef",
    "graphlib",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "has_data",
    "helpers",
    "identity",
    "initializers",
    "is_data",
    "iter_children",
    "iter_graph",
    "iter_module_children",
    "iter_modules",
    "jit",
    "jit_partial",
    "jvp",
    "leaky_relu",
    "log1mexp",
    "log_sigmoid",
    "log_softmax",
    "logical_axis_rules",
    "logmeanexp",
    "logsumexp",
    "make_jaxpr",
    "map",
    "map_state",
    "max_pool",
    "merge",
    "merge_context",
    "merge_state",
    "metrics",
    "min_pool",
    "mish",
    "module",
    "nn",
    "object",
    "one_hot",
    "optimizer",
    "pmap",
    "pool",
    "pop",
    "prefix",
    "pure",
    "pytreelib",
    "recursive_map",
    "register_data_type",
    "register_variable_name",
    "relu",
    "relu6",
    "remat",
    "replace_by_pure_dict",
    "reseed",
    "restore_int_paths",
    "restore_rngs",
    "rnglib",
    "scan",
    "selu",
    "set_metadata",
    "shard_map",
    "sigmoid",
    "silu",
    "soft_sign",
    "softmax",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "split",
    "split_context",
    "split_rngs",
    "split_state",
    "spmd",
    "squareplus",
    "standardize",
    "state",
    "statelib",
    "static",
    "swish",
    "switch",
    "tabulate",
    "tanh",
    "to_flat_state",
    "to_predicate",
    "to_pure_dict",
    "to_tree",
    "transform_metadata",
    "traversals",
    "unflatten",
    "unpack",
    "update",
    "update_context",
    "use_eager_sharding",
    "using_eager_sharding",
    "value_and_grad",
    "variable_name_from_type",
    "variable_type_from_name",
    "variablelib",
    "variables",
    "view",
    "view_info",
    "vjp",
    "vmap",
    "while_loop",
    "with_attributes",
    "with_metadata",
    "with_partitioning",
    "with_rngs",
]

"""Where variables start, under Keras's names, and `get`, which finds an initializer by name."""

from __future__ import annotations

from easyflax.initializers.base import Initializer as Initializer
from easyflax.initializers.base import RandomInitializer as RandomInitializer
from easyflax.initializers.constants import Array as Array
from easyflax.initializers.constants import Constant as Constant
from easyflax.initializers.constants import Constant as constant
from easyflax.initializers.constants import Identity as Identity
from easyflax.initializers.constants import Identity as IdentityInitializer
from easyflax.initializers.constants import Identity as identity
from easyflax.initializers.constants import Ones as Ones
from easyflax.initializers.constants import Ones as ones
from easyflax.initializers.constants import Zeros as Zeros
from easyflax.initializers.constants import Zeros as zeros
from easyflax.initializers.distributions import GlorotNormal as GlorotNormal
from easyflax.initializers.distributions import GlorotNormal as glorot_normal
from easyflax.initializers.distributions import GlorotUniform as GlorotUniform
from easyflax.initializers.distributions import GlorotUniform as glorot_uniform
from easyflax.initializers.distributions import HeNormal as HeNormal
from easyflax.initializers.distributions import HeNormal as he_normal
from easyflax.initializers.distributions import HeUniform as HeUniform
from easyflax.initializers.distributions import HeUniform as he_uniform
from easyflax.initializers.distributions import LecunNormal as LecunNormal
from easyflax.initializers.distributions import LecunNormal as lecun_normal
from easyflax.initializers.distributions import LecunUniform as LecunUniform
from easyflax.initializers.distributions import LecunUniform as lecun_uniform
from easyflax.initializers.distributions import Orthogonal as Orthogonal
from easyflax.initializers.distributions import Orthogonal as OrthogonalInitializer
from easyflax.initializers.distributions import Orthogonal as orthogonal
from easyflax.initializers.distributions import RandomNormal as RandomNormal
from easyflax.initializers.distributions import RandomNormal as random_normal
from easyflax.initializers.distributions import RandomUniform as RandomUniform
from easyflax.initializers.distributions import RandomUniform as random_uniform
from easyflax.initializers.distributions import TruncatedNormal as TruncatedNormal
from easyflax.initializers.distributions import TruncatedNormal as truncated_normal
from easyflax.initializers.distributions import VarianceScaling as VarianceScaling
from easyflax.initializers.distributions import VarianceScaling as variance_scaling
from easyflax.initializers.distributions import compute_fans as compute_fans
from easyflax.initializers.keyed import as_init as as_init
from easyflax.initializers.registry import deserialize as deserialize
from easyflax.initializers.registry import get as get
from easyflax.serialization import serialize as serialize

__all__ = [
    "Array",
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "IdentityInitializer",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "OrthogonalInitializer",
    "RandomInitializer",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "as_init",
    "compute_fans",
    "constant",
    "deserialize",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "ones",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "serialize",
    "truncated_normal",
    "variance_scaling",
    "zeros",
]

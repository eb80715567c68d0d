import jax.numpy as jnp
import numpy as np

import easyflax.nnx as nnx
from easyflax.models import Sequential


def test_layers_are_called_in_order_and_can_be_looked_at():
    dense = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    model = Sequential([lambda x: x + 1, dense, nnx.relu])
    x = jnp.arange(6.0).reshape(2, 3)
    assert np.array_equal(model(x), nnx.relu(dense(x + 1)))
    assert model.layers[1] is dense
    assert len(model.layers) == 3


def test_calling_the_model_is_calling_the_module_as_it_is():
    drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    model = Sequential([drop])
    assert not np.array_equal(model(jnp.ones(64)), np.ones(64))
    model.module.eval()
    assert np.array_equal(model(jnp.ones(64)), np.ones(64))

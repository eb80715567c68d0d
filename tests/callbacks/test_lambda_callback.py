import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.callbacks import LambdaCallback
from easyflax.models import Model


def test_functions_are_called_as_the_hooks_that_they_are_given_for():
    seen = []
    callback = LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(("epoch", epoch)),
        on_train_batch_end=lambda batch, logs: seen.append((batch, sorted(logs))),
        on_train_end=lambda logs: seen.append(sorted(logs)),
        on_test_begin=lambda logs: seen.append("test"),
        on_batch_begin=lambda batch, logs: seen.append(batch),
    )
    model = Model(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
    model.compile("sgd", "mse")
    x = np.zeros((2, 2), np.float32)
    model.fit(x, x, validation_data=(x, x), verbose=0, callbacks=[callback])
    assert seen == [("epoch", 0), 0, (0, ["loss"]), "test", ["loss", "val_loss"]]


def test_what_is_no_hook_or_no_function_is_refused():
    with pytest.raises(TypeError, match=r"Unknown hook 'on_epoch_ends': .* Did you mean 'on_epoch_end'"):
        LambdaCallback(on_epoch_ends=print)
    with pytest.raises(TypeError, match=r"on_epoch_end is 3, expected a function\. Pass for example"):
        LambdaCallback(on_epoch_end=3)

import easyflax.nnx as nnx
from easyflax.layers import BatchNormalization, Conv2D, Dense, Flatten, Input, Layer
from easyflax.models import Sequential


def _names(layer):
    return [
        line.split("=")[0].strip() for line in repr(layer).splitlines() if line[:3] != "   " and "=" in line
    ]


def test_layers_show_their_weights_and_what_is_not_as_by_default():
    model = Sequential(
        [
            Input((8, 8, 1)),
            Conv2D(2, 3, activation="relu", kernel_regularizer="l2", kernel_initializer="ones"),
            BatchNormalization(momentum=0.9),
            Flatten(),
            Dense(3),
        ]
    )
    conv, norm, flatten, dense = model.layers
    assert sorted(_names(conv)) == [
        "activation",
        "bias",
        "filters",
        "kernel",
        "kernel_initializer",
        "kernel_regularizer",
        "kernel_size",
    ]
    assert sorted(_names(norm)) == ["bias", "mean", "momentum", "scale", "var"]
    assert repr(flatten) == "Flatten()"
    assert sorted(_names(dense)) == ["bias", "kernel", "units"]
    assert repr(Dense(3, use_bias=False)) == "Dense(\n  units=3,\n  use_bias=False\n)"


def test_layers_of_ones_own_show_their_attributes():
    class Scale(Layer):
        def __init__(self, factor=2.0, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor
            self.kept = "note"
            self.inner = nnx.Param(1.0)

    assert _names(Scale()) == ["kept", "inner"]
    assert _names(Scale(factor=3.0, dtype="bfloat16")) == ["dtype_policy", "factor", "kept", "inner"]

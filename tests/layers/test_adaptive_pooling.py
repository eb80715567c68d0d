import numpy as np
import pytest

import easyflax.layers as layers


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 9])
@pytest.mark.parametrize(
    ("cls", "reduce"),
    [(layers.AdaptiveMaxPooling1D, np.max), (layers.AdaptiveAveragePooling1D, np.mean)],
    ids=["max", "mean"],
)
def test_windows_run_from_one_fraction_of_the_length_to_the_next(cls, reduce, count):
    x = np.random.default_rng(0).normal(size=(2, 7, 3)).astype("float32")
    windows = [slice(i * 7 // count, -(-(i + 1) * 7 // count)) for i in range(count)]
    expected = np.stack([reduce(x[:, window], axis=1) for window in windows], axis=1)
    np.testing.assert_allclose(cls(count)(x), expected, rtol=1e-6)


def test_an_output_of_the_inputs_size_is_the_input():
    x = np.arange(24.0, dtype="float32").reshape(1, 2, 3, 4)
    assert (layers.AdaptiveMaxPooling2D((2, 3))(x) == x).all()
    assert (layers.AdaptiveAveragePooling2D((3, 4), data_format="channels_first")(x) == x).all()


def test_the_output_size_is_one_for_each_axis():
    assert layers.AdaptiveMaxPooling2D(3).compute_output_shape((None, None, 8, 2)) == (None, 3, 3, 2)
    with pytest.raises(ValueError, match=r"AdaptiveMaxPooling2D: got output_size=\(1, 2, 3\), expected"):
        layers.AdaptiveMaxPooling2D((1, 2, 3))

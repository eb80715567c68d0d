"""Names, classes, configurations and functions as losses."""

import numpy as np
import pytest

import easyflax.losses as losses
from easyflax.serialization import custom_object_scope, register_keras_serializable

Y_TRUE, Y_PRED = np.zeros((2, 1)), np.full((2, 1), 3.0, "float32")


def cubic(y_true, y_pred):
    return abs(y_true - y_pred)[..., 0] ** 3


class Scaled(losses.Loss):
    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, y_true, y_pred):
        return self.scale * abs(y_true - y_pred)[..., 0]

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


def test_get_finds_functions_classes_and_nothing():
    assert losses.get(None) is None
    assert (
        losses.get("mse")
        is losses.get("MSE")
        is losses.get("mean_squared_error")
        is losses.mean_squared_error
    )
    assert (
        type(losses.get("MeanSquaredError"))
        is type(losses.get(losses.MeanSquaredError))
        is losses.MeanSquaredError
    )
    assert losses.get(cubic) is cubic
    loss = losses.Huber(2.0)
    assert losses.get(loss) is loss


@pytest.mark.parametrize(
    "config",
    [
        {"class_name": "Huber", "config": {"delta": 2.0}},
        {"module": "keras.losses", "class_name": "Huber", "config": {"delta": 2.0}, "registered_name": None},
    ],
    ids=["short", "whole"],
)
def test_get_reads_configurations(config):
    assert losses.get(config).get_config()["delta"] == 2.0


def test_a_compiled_loss_is_always_an_object():
    specs = ["mse", "MeanSquaredError", losses.mean_squared_error, losses.MeanSquaredError]
    for spec in [*specs, losses.serialize(losses.MeanSquaredError()), losses.MeanSquaredError()]:
        assert type(losses.as_loss(spec)) is losses.MeanSquaredError
        assert losses.as_loss(spec)(Y_TRUE, Y_PRED) == 9
    assert losses.as_loss(cubic)(Y_TRUE, Y_PRED) == 27
    assert losses.as_loss(cubic).name == "cubic"


def test_only_a_crossentropy_given_by_name_leaves_from_logits_open():
    assert losses.as_loss("binary_crossentropy").from_logits is None
    assert losses.as_loss("SparseCategoricalCrossentropy").from_logits is None
    assert losses.as_loss("categorical_focal_crossentropy").from_logits is None
    assert losses.as_loss("mse").from_logits is False
    assert losses.as_loss(losses.CategoricalCrossentropy).from_logits is False
    assert losses.as_loss(losses.binary_crossentropy).from_logits is False
    assert losses.as_loss(losses.SparseCategoricalCrossentropy()).from_logits is False


def test_a_crossentropy_that_goes_by_shapes_needs_them():
    losses.check("crossentropy")
    with pytest.raises(
        ValueError, match=r"'crossentropy' is chosen by the shapes .* Pass output_shape= and y_shape="
    ):
        losses.as_loss("ce")


@pytest.mark.parametrize("find", [losses.get, losses.as_loss, losses.check, losses.deserialize])
def test_an_unknown_name_gets_the_nearest_known_one(find):
    with pytest.raises(
        ValueError, match=r"Unknown loss 'sparse_categorical_crosentropy'.*Did you mean 'sparse_cat"
    ):
        find("sparse_categorical_crosentropy")


@pytest.mark.parametrize("find", [losses.get, losses.as_loss, losses.check])
def test_something_that_is_no_loss_is_refused(find):
    with pytest.raises(TypeError, match="A loss was given as int, expected a name"):
        find(3)


def test_there_is_no_loss_for_none():
    for find in (losses.as_loss, losses.check):
        with pytest.raises(TypeError, match="A loss was given as NoneType"):
            find(None)


def test_losses_of_ones_own_come_back_from_their_configuration():
    config = losses.serialize(Scaled(3.0, name="mine", reduction="sum"))
    again = losses.deserialize(config, custom_objects={"Scaled": Scaled})
    assert type(again) is Scaled
    assert again.get_config() == {"name": "mine", "reduction": "sum", "scale": 3.0}
    assert again(Y_TRUE, Y_PRED) == 18
    with pytest.raises(TypeError, match="names the class 'Scaled'"):
        losses.deserialize(config)


def test_names_of_ones_own_are_found_once_they_are_registered():
    register_keras_serializable("tests", "fourth")(cubic)
    assert losses.get("tests>fourth") is cubic
    assert losses.deserialize(losses.serialize(cubic)) is cubic
    with custom_object_scope({"scaled": Scaled}):
        assert type(losses.get("scaled")) is Scaled


def test_a_function_as_a_loss_is_written_with_the_function():
    register_keras_serializable("tests", "cubic")(cubic)
    loss = losses.as_loss(cubic)
    again = type(loss).from_config(loss.get_config())
    assert again.fn is cubic
    assert again.get_config() == loss.get_config()


def test_the_dtype_is_in_the_configuration_when_it_was_given():
    assert "dtype" not in losses.MeanSquaredError().get_config()
    config = losses.MeanSquaredError(dtype="bfloat16").get_config()
    assert losses.MeanSquaredError.from_config(config).dtype == config["dtype"] == "bfloat16"

import pytest

import easyflax.activations as activations


def test_none_is_linear_and_a_function_is_itself():
    assert activations.get(None) is activations.linear
    assert activations.get(abs) is abs


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown activation 'rleu'.*Did you mean 'relu'"):
        activations.get("rleu")


def test_what_cannot_be_an_activation_is_refused():
    with pytest.raises(
        ValueError, match="An activation was given as int, expected a name, a function or a layer"
    ):
        activations.get(3)


def test_deserialize_knows_custom_objects():
    def twice(x):
        return 2 * x

    assert activations.deserialize("twice", {"twice": twice}) is twice

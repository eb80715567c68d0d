import numpy as np
import pytest

import easyflax.initializers as initializers
import easyflax.random as random


def test_called_by_hand_an_initializer_without_seed_repeats_itself_and_another_differs():
    random.set_random_seed(0)
    one, other = initializers.GlorotUniform(), initializers.GlorotUniform()
    np.testing.assert_array_equal(one((3,)), one((3,)))
    assert not np.array_equal(one((3,)), other((3,)))
    first = np.asarray(one((3,)))
    random.set_random_seed(0)
    np.testing.assert_array_equal(initializers.GlorotUniform()((3,)), first)


def test_a_seed_generator_gives_new_draws_at_each_call():
    init = initializers.RandomNormal(seed=random.SeedGenerator(1))
    assert not np.array_equal(init((3,)), init((3,)))
    again = initializers.RandomNormal.from_config(init.get_config())
    assert again == init


def test_a_base_initializer_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match=r"Initializer has no __call__.*Define it"):
        initializers.Initializer()((2,))


@pytest.mark.parametrize("seed", ["x", 1.5, True])
def test_a_seed_of_another_type_is_refused(seed):
    with pytest.raises(
        ValueError, match=r"HeNormal was given seed=.*expected an integer, a SeedGenerator or None"
    ):
        initializers.HeNormal(seed=seed)

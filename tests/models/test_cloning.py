"""Clones are of the kind of the model that they are made of."""

from __future__ import annotations

import easyflax as ef
from easyflax.models import clone_model


def test_the_clone_of_a_graph_has_the_class_of_the_model():
    class Doubled(ef.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return 2 * super().compute_loss(x, y, y_pred, sample_weight)

    x = ef.Input((4,))
    assert type(clone_model(Doubled(x, ef.layers.Dense(1)(x)))) is Doubled
    assert type(clone_model(ef.Model(x, ef.layers.Dense(1)(x)))) is ef.Model

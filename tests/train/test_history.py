import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from easyflax.train.history import History

mpl.use("Agg")


@pytest.fixture
def history():
    """Three epochs, validated in the second only."""
    made = History()
    made.on_epoch_end(3, {"loss": 1.0})
    made.on_epoch_end(4, {"loss": 0.5, "val_loss": 2.0})
    made.on_epoch_end(5, {"loss": 0.25})
    return made


@pytest.fixture
def plt():
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def test_every_epoch_is_appended_under_its_names(history):
    assert history.epoch == [3, 4, 5]
    assert history.history == {"loss": [1.0, 0.5, 0.25], "val_loss": [2.0]}
    assert repr(history) == "History(epochs=3, loss=0.2500, val_loss=2.0000)"


def test_scalars_are_kept_as_python_floats_and_arrays_as_they_are():
    history = History()
    history.on_epoch_end(0, {"rate": np.float32(0.5), "steps": 3, "recall": np.array([0.0, 1.0])})
    assert [type(history.history[name][0]) for name in ("rate", "steps")] == [float, float]
    np.testing.assert_array_equal(history.history["recall"][0], [0.0, 1.0])


def test_to_pandas_has_a_row_an_epoch_and_nan_where_there_was_no_validation(history):
    frame = history.to_pandas()
    assert frame.index.name == "epoch"
    expected = pd.DataFrame(
        {"loss": [1.0, 0.5, 0.25], "val_loss": [np.nan, 2.0, np.nan]}, index=pd.Index([3, 4, 5], name="epoch")
    )
    pd.testing.assert_frame_equal(frame, expected)


def test_to_pandas_takes_several_fits_and_lists_that_the_user_made(history):
    history.on_epoch_end(3, {"loss": 0.125})
    history.history["mine"] = [7.0, 8.0]
    frame = history.to_pandas()
    assert list(frame.index) == [3, 4, 5, 3]
    assert frame["mine"].tolist()[:2] == [7.0, 8.0]
    history.history["mine"] = [1.0] * 6
    assert list(history.to_pandas().index) == [3, 4, 5, 3, 4, 5]


@pytest.mark.parametrize(
    ("module", "method", "advice"),
    [("pandas", "to_pandas", "pip install pandas"), ("matplotlib.pyplot", "plot", r"easyflax\[notebook\]")],
)
def test_a_missing_library_is_an_error_that_says_what_to_install(
    history, monkeypatch, module, method, advice
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=advice):
        getattr(history, method)()


def test_plot_draws_training_and_validation_of_a_metric_together_at_the_epochs_from_one(history, plt):
    axes = history.plot()
    training, validation = axes.get_lines()
    assert axes.get_title() == "loss"
    np.testing.assert_array_equal(training.get_xydata(), [[4, 1.0], [5, 0.5], [6, 0.25]])
    np.testing.assert_array_equal(validation.get_xydata(), [[5, 2.0]])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]


def test_plot_has_one_axes_a_metric(plt):
    history = History()
    for epoch in range(3):
        history.on_epoch_end(epoch, dict.fromkeys("abcd", 1.0) | {"per_class": np.ones(2)})
    axes = history.plot()
    assert [each.get_title() for each in axes] == ["a", "b", "c", "d", "per_class"]
    assert len(axes[0].figure.axes) == 5
    assert len(axes[-1].get_lines()) == 2
    _, (left, right) = plt.subplots(1, 2)
    assert list(history.plot(["b", "d"], ax=[left, right])) == [left, right]
    assert history.plot("c", ax=left) is left


def test_plot_refuses_what_it_cannot_draw(history, plt):
    with pytest.raises(
        ValueError, match=r"Unknown metric 'los': expected one of 'loss'\. Did you mean 'loss'"
    ):
        history.plot("los")
    with pytest.raises(ValueError, match="ax holds 2 axes for 1 metrics, expected one for each"):
        history.plot("loss", ax=plt.subplots(1, 2)[1])
    with pytest.raises(ValueError, match=r"no metrics to draw, expected one or more\. Plot after fit"):
        History().plot()


def test_a_notebook_shows_a_table_without_the_middle_if_it_is_long(history):
    table = history._repr_html_()
    assert "<tr><th>epoch</th><th>loss</th><th>val_loss</th></tr>" in table
    assert (
        "<tr><td>4</td><td>0.5000</td><td>2.0000</td></tr><tr><td>5</td><td>0.2500</td><td></td></tr>"
        in table
    )
    long = History()
    for epoch in range(100):
        long.on_epoch_end(epoch, {"<loss>": 1.0})
    table = long._repr_html_()
    assert table.count("<tr>") == 12
    assert "<th>&lt;loss&gt;</th>" in table
    assert "<td>4</td><td>1.0000</td></tr><tr><td>…</td><td>…</td></tr><tr><td>95</td>" in table


def test_a_record_that_was_saved_and_taken_up_keeps_the_order_of_its_names():
    history = History()
    history.on_train_begin()
    history.on_epoch_end(0, {"loss": 1.0, "val_loss": 2.0, "a_norm": 3.0})
    saved = history.state_dict()
    resumed = History()
    resumed.on_train_begin()
    resumed.load_state_dict(
        {name: saved[name] for name in sorted(saved)} | {"history": dict(sorted(saved["history"].items()))}
    )
    assert list(resumed.history) == ["loss", "val_loss", "a_norm"]
    assert resumed.history == history.history

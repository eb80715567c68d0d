import itertools
import sys
from types import SimpleNamespace

import pytest
from tqdm import std

from easyflax.train.progress import Progress


class Outputs:
    """What stands below a cell: the newest content of each output."""

    def __init__(self):
        self.contents = []

    def display(self, content, *, display_id, raw=False):
        assert display_id
        place = len(self.contents)
        self.contents.append(content)

        def update(newer, raw=False):
            self.contents[place] = newer

        return SimpleNamespace(update=update)


class Widgets(std.tqdm):
    """As tqdm's class for notebooks: it has a container, in which it draws."""

    def __init__(self, *args, display, **kwargs):
        assert not display
        self.container = SimpleNamespace(text="")
        super().__init__(*args, gui=True, **kwargs)

    def display(self, *args, **kwargs):
        self.container.text = self.format_meter(**self.format_dict)


Widgets.__module__ = "tqdm.notebook"


@pytest.fixture
def outputs(monkeypatch):
    made = Outputs()
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=made.display))
    monkeypatch.setattr("tqdm.auto.tqdm", Widgets)
    seconds = itertools.count()
    monkeypatch.setattr("easyflax.train.progress.time.perf_counter", lambda: next(seconds))
    return made


def _epoch(verbose, between=lambda: None):
    progress = Progress()
    progress.set_params({"verbose": verbose, "epochs": 1, "steps": 2})
    with progress.on_screen():
        progress.on_epoch_begin(0)
        progress.on_train_batch_end(0, {"loss": 0.5})
        between()
        progress.on_epoch_end(0, {"loss": 0.25})


@pytest.mark.parametrize("verbose", ["auto", 1])
def test_a_widget_is_replaced_by_its_last_line(outputs, capsys, verbose):
    seen = []
    _epoch(verbose, lambda: seen.append(outputs.contents[0].text))
    assert seen[0].startswith("Epoch 1/1 1/2 ")
    assert seen[0].endswith("loss: 0.5000")
    (left,) = outputs.contents
    assert left["text/plain"].startswith("Epoch 1/1 1/2 - ")
    assert left["text/plain"].endswith("loss: 0.2500")
    assert capsys.readouterr().out == ""


def test_rich_draws_html_with_text_for_viewers_without(outputs, capsys):
    seen = []
    _epoch("rich", lambda: seen.append(outputs.contents[0]))
    assert "━" in seen[0]["text/html"]
    (left,) = outputs.contents
    assert "<pre " in left["text/html"]
    assert "━" not in left["text/html"]
    assert left["text/plain"].startswith("Epoch 1/1 1/2 ")
    assert left["text/plain"].endswith("loss 0.2500")
    assert capsys.readouterr().out == ""


def test_a_notebook_without_widgets_has_the_bar_of_rich(outputs, monkeypatch):
    monkeypatch.setattr("tqdm.auto.tqdm", std.tqdm)
    _epoch(1)
    assert [set(content) for content in outputs.contents] == [{"text/html", "text/plain"}]


@pytest.mark.parametrize("verbose", [1, "rich"])
def test_an_exception_leaves_what_was_drawn(outputs, verbose):
    with pytest.raises(ZeroDivisionError):
        _epoch(verbose, lambda: 1 / 0)
    (left,) = outputs.contents
    assert "1/2" in (left.text if verbose == 1 else left["text/plain"])


def test_a_shell_without_a_kernel_is_no_notebook(outputs, monkeypatch, capsys):
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace())
    _epoch("auto")
    assert not outputs.contents
    assert capsys.readouterr().out.startswith("Epoch 1/1 1/2 - ")

import functools
import io
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.callbacks import LambdaCallback
from easyflax.models import Model
from easyflax.train.compiling import telling, watching
from easyflax.train.logs import BatchLogs
from easyflax.train.packing import Packing
from easyflax.train.progress import Progress, check_verbose

LOSS = Packing(lambda: {"loss": jnp.zeros(())})
X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
NUMBER = r"\d\S*"


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and can tell what would stand on it; used by `with`."""

    encoding = "utf-8"

    def __enter__(self):
        self.before = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = self
        return self

    def __exit__(self, *exception):
        left = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = self.before
        assert left == (self, self), "the streams were not put back"

    def isatty(self):
        return True

    def lines(self):
        """The lines as they look in the end, without those that were drawn over."""
        text = re.sub(r"\x1b\[\?25[hl]|\x1b\[[0-9;]*m", "", self.getvalue())  # the cursor, colours
        rows, row, column = [[]], 0, 0
        for part in re.findall(r"\x1b\[\d?A|\x1b\[2K|.|\n", text):
            if part == "\n":
                row, column = row + 1, 0
                rows += [[]] * (row == len(rows))
            elif part == "\r":
                column = 0
            elif part == "\x1b[2K":
                rows[row] = []
            elif part.startswith("\x1b"):
                row -= int(part[2:-1] or 1)
            else:
                rows[row] += [" "] * (column - len(rows[row]))
                rows[row][column : column + 1] = part
                column += 1
        return [line for line in ("".join(each).rstrip() for each in rows) if line]


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return Terminal()


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("easyflax.train.progress.time.perf_counter", lambda: now[0])
    return now


@pytest.fixture(scope="module")
def model():
    model = Model(nnx.Linear(4, 4, rngs=nnx.Rngs(0)))
    model.compile("sgd", "mse", metrics=["mae"])
    return model


def on_terminal(test):
    """Has the test print on its terminal; pytest's own capture comes between fixtures and tests."""

    @functools.wraps(test)
    def run(**arguments):
        with arguments["terminal"]:
            test(**arguments)

    return run


def progress_of(verbose, **params):
    progress = Progress()
    progress.set_params({"verbose": verbose, "epochs": 1, "steps": None, **params})
    return progress


def arrived(value):
    return BatchLogs({"float32": jnp.full(1, value)}, LOSS)


class Unfinished:
    """An array whose step has not finished; fetching it would wait for ever."""

    ready = False

    def is_ready(self):
        return self.ready

    def __array__(self, *args, **kwargs):
        assert self.ready, "the bar waited for the device"
        return np.array([0.25], np.float32)


# -- what is shown where


@pytest.mark.parametrize("verbose", ["auto", 1, True, 2, "rich"])
def test_where_nobody_watches_each_epoch_is_a_line(model, capsys, verbose):
    model.fit(X, X, batch_size=4, epochs=2, validation_split=0.5, verbose=verbose)
    lines = capsys.readouterr().out.splitlines()
    logs = rf"loss: {NUMBER} - mae: {NUMBER} - val_loss: {NUMBER} - val_mae: {NUMBER}"
    assert len(lines) == 2
    assert re.fullmatch(rf"Epoch 2/2 2/2 - {NUMBER}s - {NUMBER}s/step - {logs}", lines[1])


@pytest.mark.parametrize("verbose", ["auto", 1, True, "rich"])
@on_terminal
def test_a_terminal_keeps_a_line_an_epoch(model, terminal, verbose):
    history = model.fit(X, X, batch_size=4, epochs=2, validation_split=0.25, verbose=verbose)
    lines = terminal.lines()
    assert len(lines) == 2
    assert re.match(r"Epoch 1/2 3/3 (- )?\d\.\ds ", lines[0])
    assert lines[1].startswith("Epoch 2/2 3/3 ")
    for name in ("loss", "val_mae"):
        assert re.search(rf"\b{name}:? {history.history[name][1]:.4f}", lines[1])
    assert "█" in terminal.getvalue() or "━" in terminal.getvalue()


@pytest.mark.parametrize("verbose", [1, 2, "rich"])
@on_terminal
def test_evaluate_and_predict_have_lines_of_their_own(model, terminal, verbose):
    model.evaluate(X, X, batch_size=4, verbose=verbose)
    model.predict(X, batch_size=4, verbose=verbose)
    evaluate, predict = terminal.lines()
    assert evaluate.startswith("Evaluate 3/3 ")
    assert "loss" in evaluate
    assert predict.startswith("Predict 3/3 ")


@pytest.mark.parametrize("verbose", [0, False])
@on_terminal
def test_silent_is_silent(model, terminal, verbose):
    model.fit(X, X, verbose=verbose)
    model.evaluate(X, X, verbose=verbose)
    model.predict(X, verbose=verbose)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("verbose", [3, -1, "bar", None])
def test_other_values_of_verbose_are_refused(verbose):
    with pytest.raises(
        ValueError, match=r"verbose is .*, expected 'auto', 0 \(silent\), 1 \(bar\) or 2 .* or 'rich'"
    ):
        check_verbose(verbose)


def test_a_long_epoch_has_a_line_every_ten_seconds_where_nobody_watches(capsys, clock):
    progress = progress_of(1, steps=1000)
    progress.on_epoch_begin(0)
    for step in range(1000):
        clock[0] += 0.03
        progress.on_train_batch_end(step, arrived(0.5))
    progress.on_epoch_end(0, {"loss": 0.25})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0] == "Epoch 1/1  336/1000 - 0:10<0:20 - 30ms/step - loss: 0.5000"
    assert lines[-1] == "Epoch 1/1 1000/1000 - 30.0s - 30ms/step - loss: 0.2500"


# -- what is compiled


def train_slowly(progress, clock, seconds):
    """An epoch of two steps; the first is compiled for so long, and what is drawn meanwhile is returned."""
    drawn = []

    def step(x):
        clock[0] += seconds
        drawn.append(getattr(sys.stdout, "getvalue", str)())
        return x

    with progress.on_screen():
        compiled = jax.jit(telling("train step", step))
        for epoch in range(2):
            progress.on_epoch_begin(epoch)
            for batch in range(2):
                compiled(0.0)
                clock[0] += 0.01
                progress.on_train_batch_end(batch, arrived(0.5))
            progress.on_epoch_end(epoch, {"loss": 0.25})
    return drawn


@pytest.mark.parametrize("verbose", [1, "rich"])
@on_terminal
def test_a_step_that_is_compiled_is_shown_and_then_for_how_long_it_was(verbose, terminal, clock):
    (drawn,) = train_slowly(progress_of(verbose, epochs=2, steps=2), clock, 3.2)
    assert "compiling train step" in drawn
    first, second = terminal.lines()
    assert "compiled train step, 3.2s" in first
    assert "compil" not in second


def test_lines_say_how_long_a_step_was_compiled(clock, capsys):
    train_slowly(progress_of(2, epochs=2, steps=2), clock, 3.2)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "Epoch 1/2 2/2 - 3.2s - 10ms/step - compiled train step, 3.2s - loss: 0.2500"
    assert second == "Epoch 2/2 2/2 - 0.0s - 10ms/step - loss: 0.2500"


@on_terminal
def test_a_short_compilation_is_not_told_afterwards(terminal, clock):
    train_slowly(progress_of(1, epochs=2, steps=2), clock, 0.5)
    assert not any("compil" in line for line in terminal.lines())


def test_a_step_tells_only_while_it_is_traced_and_somebody_wants_to_know():
    told = []
    step = jax.jit(telling("some step", lambda x: x + 1))
    with watching(told.append):
        step(np.ones(2))
        step(np.zeros(2))
        step(np.ones(3))
    step(np.ones(4))
    assert told == ["some step"] * 2


# -- when, and what


@on_terminal
def test_the_bar_never_waits_for_a_step(terminal, clock):
    progress = progress_of(1, steps=100)
    progress.on_epoch_begin(0)
    value = Unfinished()
    for step in range(50):
        clock[0] += 0.06
        progress.on_train_batch_end(step, BatchLogs({"float32": value}, LOSS))
    assert "loss" not in terminal.getvalue()
    value.ready = True
    clock[0] += 1
    progress.on_train_batch_end(50, BatchLogs({"float32": Unfinished()}, LOSS))
    assert "loss: 0.2500" in terminal.lines()[-1]
    progress.on_epoch_end(0, {"loss": 1.0})


@pytest.mark.parametrize(("verbose", "most"), [(1, 10), ("rich", 4)])
@on_terminal
def test_progress_is_drawn_at_most_ten_times_a_second(monkeypatch, terminal, clock, verbose, most):
    progress = progress_of(verbose, steps=1000)
    progress.on_epoch_begin(0)
    draws = []
    display = progress._display
    draw = display.draw
    monkeypatch.setattr(display, "draw", lambda moment: (draws.append(moment), draw(moment)))
    for step in range(1000):
        clock[0] += 0.001
        progress.on_train_batch_end(step, arrived(1.0))
    assert most - 1 <= len(draws) <= most
    progress.on_epoch_end(0)


@on_terminal
def test_the_first_step_counts_for_the_time_and_not_for_the_pace(terminal, clock):
    progress = progress_of(1, steps=11)
    progress.on_epoch_begin(0)
    clock[0] += 20  # compiles
    for step in range(11):
        progress.on_train_batch_end(step, arrived(1.0))
        clock[0] += 0.5 * (step < 10)
    assert "11/11 |████████████████████| 0:25 - 500ms/step - loss: 1.0000" in terminal.lines()[-1]
    progress.on_epoch_end(0)
    assert terminal.lines()[-1] == "Epoch 1/1 11/11 - 25.0s - 500ms/step"


@on_terminal
def test_an_unknown_number_of_steps_counts_up_and_is_known_in_the_second_epoch(terminal, clock):
    progress = progress_of(1, epochs=2)
    progress.on_train_begin()
    for epoch in range(2):
        progress.on_epoch_begin(epoch)
        for step in range(4):
            clock[0] += 1
            progress.on_train_batch_end(step, arrived(1.0))
        progress.on_epoch_end(epoch)
    text = terminal.getvalue()
    assert "Epoch 1/2 3/? 0:03 - 1.0s/step" in text
    assert re.search(r"Epoch 2/2 3/4 \|█+.? +\| 0:03<0:01 - 1.0s/step", text)
    assert [line.split(" - ")[0] for line in terminal.lines()] == ["Epoch 1/2 4/4", "Epoch 2/2 4/4"]


@on_terminal
def test_more_steps_than_were_announced_are_counted_without_a_total(terminal, clock):
    progress = progress_of(1, steps=2)
    progress.on_epoch_begin(0)
    for step in range(3):
        clock[0] += 1
        progress.on_train_batch_end(step, arrived(1.0))
    progress.on_epoch_end(0)
    assert terminal.lines()[-1].startswith("Epoch 1/1 3/3 - ")


@on_terminal
def test_validation_is_announced_in_the_bar_and_counted_by_the_one_before(terminal, clock):
    progress = progress_of(1, epochs=2, steps=1)
    progress.on_train_begin()
    for epoch in range(2):
        progress.on_epoch_begin(epoch)
        clock[0] += 2
        progress.on_train_batch_end(0, arrived(1.0))
        progress.on_test_begin()
        for step in range(3):
            clock[0] += 1
            progress.on_test_batch_end(step, arrived(9.0))
        progress.on_test_end({"loss": 9.0})
        progress.on_epoch_end(epoch, {"loss": 1.0, "val_loss": 9.0})
    text = terminal.getvalue()
    assert "2.0s/step - validating - loss: 1.0000" in text
    assert "validating 2 - loss: 1.0000" in text
    assert "validating 2/3 - loss: 1.0000" in text
    assert terminal.lines()[1] == "Epoch 2/2 1/1 - 5.0s - 2.0s/step - loss: 1.0000 - val_loss: 9.0000"


@on_terminal
def test_a_line_is_cut_to_a_narrow_terminal_and_whole_in_the_end(model, terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    model.fit(X, X, validation_split=0.5, verbose=1)
    *drawn, last = re.split(r"\r|\n", terminal.getvalue().rstrip())
    assert max(map(len, drawn)) <= 40
    assert any(re.fullmatch(r"Epoch 1/1 1/1 0:\d\d - validating - loss…", line) for line in drawn)
    assert re.fullmatch(rf"  val_loss: {NUMBER} - val_mae: {NUMBER}", last)
    assert re.fullmatch(rf"Epoch 1/1 1/1 - {NUMBER}s - {NUMBER}/step", terminal.lines()[0])


# -- others write too


@pytest.mark.parametrize("verbose", [1, "rich"])
@on_terminal
def test_what_callbacks_print_stands_above_the_bar(model, terminal, verbose):
    talk = LambdaCallback(
        on_train_batch_end=lambda batch, logs: print("batch", batch),
        on_epoch_end=lambda epoch, logs: print("epoch", epoch, file=sys.stderr),
    )
    model.fit(X, X, batch_size=6, verbose=verbose, callbacks=[talk])
    *said, last = terminal.lines()
    assert said == ["batch 0", "batch 1", "epoch 0"]
    assert last.startswith("Epoch 1/1 2/2 ")


@on_terminal
def test_the_bar_keeps_off_a_line_that_is_being_written(model, terminal):
    dots = LambdaCallback(on_train_batch_end=lambda batch, logs: print(".", end=""))
    model.fit(X, X, batch_size=1, verbose=1, callbacks=[dots])
    dots, last = terminal.lines()
    assert dots == "." * 12
    assert last.startswith("Epoch 1/1 12/12 - ")


@pytest.mark.parametrize("verbose", [1, "rich"])
@on_terminal
def test_an_evaluation_within_a_callback_is_shown_above_the_bar(model, terminal, verbose):
    def look(epoch, logs):
        model.evaluate(X, X, verbose=verbose)
        model.predict(X, verbose=verbose)

    model.fit(X, X, epochs=2, verbose=verbose, callbacks=[LambdaCallback(on_epoch_end=look)])
    assert [line.split()[0] for line in terminal.lines()] == ["Evaluate", "Predict", "Epoch"] * 2


@pytest.mark.parametrize("verbose", [1, "rich"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@on_terminal
def test_an_exception_leaves_the_bar_as_it_stands_and_a_new_line(model, terminal, verbose, error):
    def stop(batch, logs):
        if batch == 1:
            raise error

    with pytest.raises(error):
        model.fit(X, X, batch_size=4, verbose=verbose, callbacks=[LambdaCallback(on_train_batch_end=stop)])
    print("after")
    *bar, after = terminal.lines()
    assert after == "after"
    assert bar[0].startswith("Epoch 1/1 ")


@on_terminal
def test_a_loop_of_the_users_own_has_a_bar_too(terminal):
    progress = Progress()
    progress.set_params({"verbose": 1, "epochs": 1, "steps": 2})
    progress.on_train_begin()
    progress.on_epoch_begin(0)
    for step in range(2):
        progress.on_train_batch_end(step, {"loss": 0.5})
    progress.on_epoch_end(0, {"loss": 0.5})
    progress.on_train_end()
    assert re.fullmatch(rf"Epoch 1/1 2/2 - {NUMBER}s - {NUMBER}s/step - loss: 0.5000", terminal.lines()[0])


@on_terminal
def test_fit_evaluate_and_predict_say_what_they_compile_the_first_time(terminal, monkeypatch):
    monkeypatch.setattr("easyflax.train.progress._LONG_COMPILATION", 0.0)
    model = Model(nnx.Linear(4, 4, rngs=nnx.Rngs(0)))
    model.compile("sgd", "mse")
    for _ in range(2):
        model.fit(X, X, batch_size=4, validation_data=(X, X), verbose=1)
        model.evaluate(X, X, batch_size=4, verbose=1)
        model.predict(X, batch_size=4, verbose=1)
    lines = "\n".join(terminal.lines()).replace("\n  ", " ").splitlines()  # long ones are broken
    found = [re.findall(r"compiled (\w+ step), ", line) for line in lines]
    assert found == [["train step", "evaluation step"], [], ["prediction step"], [], [], []]
    for step in ("train", "evaluation", "prediction"):
        assert f"compiling {step} step" in terminal.getvalue()

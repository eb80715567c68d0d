"""Event files, read back with TensorBoard's own reader."""

import io
import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from easyflax.callbacks import TensorBoard
from easyflax.callbacks.event_writer import EventWriter
from easyflax.callbacks.model_views import graph_nodes, weight_images
from easyflax.layers import Add, Dense, Embedding, Flatten, Input
from easyflax.models import Model, Sequential

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def a_model():
    model = Sequential([Input((3,)), Dense(4, activation="relu"), Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    return model


def read(folder):
    """All values of a run by tag, each a list of pairs of step and value."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return {
        tag: [(event.step, tensor_util.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }, events


def numbers(values, tag):
    return {step: float(value) for step, value in values[tag]}


def fit(model, callback, **options):
    options = {"batch_size": 4, "epochs": 2, "verbose": 0, "validation_data": (X, Y), **options}
    return model.fit(X, Y, callbacks=[callback], **options).history


def test_epochs_are_scalars_of_training_and_of_validation(tmp_path):
    model = a_model()
    history = fit(model, TensorBoard(tmp_path, write_steps_per_second=True))
    train, events = read(tmp_path / "train")
    validation, _ = read(tmp_path / "validation")
    assert set(train) == {
        "epoch_loss",
        "epoch_mae",
        "epoch_learning_rate",
        "epoch_steps_per_second",
    }
    for name in ("loss", "mae"):
        for values, log in ((train, name), (validation, f"val_{name}")):
            expected = dict(enumerate(history[log]))
            assert numbers(values, f"epoch_{name}") == pytest.approx(expected, rel=1e-6)
    assert numbers(train, "epoch_learning_rate") == pytest.approx({0: 0.01, 1: 0.01})
    assert min(numbers(train, "epoch_steps_per_second").values()) > 0
    after_steps = numbers(validation, "evaluation_loss_vs_iterations")
    assert after_steps == pytest.approx(dict(zip((5, 10), history["val_loss"])), rel=1e-6)
    assert events.SummaryMetadata("epoch_loss").plugin_data.plugin_name == "scalars"


def test_evaluate_alone_is_written_too(tmp_path):
    model = a_model()
    loss, _ = model.evaluate(X, Y, verbose=0, callbacks=[TensorBoard(tmp_path)])
    values, _ = read(tmp_path / "validation")
    assert numbers(values, "evaluation_loss_vs_iterations") == pytest.approx({0: loss}, rel=1e-6)


def test_batches_are_counted_across_epochs_from_one(tmp_path):
    callback = TensorBoard(tmp_path, update_freq=2, write_steps_per_second=True)
    history = fit(a_model(), callback)
    train, _ = read(tmp_path / "train")
    assert list(numbers(train, "batch_loss")) == [2, 4, 6, 8, 10]
    assert numbers(train, "batch_loss")[10] == pytest.approx(history["loss"][1], rel=1e-6)
    assert list(numbers(train, "batch_steps_per_second")) == [2, 4, 6, 8, 10]


def test_a_resumed_run_counts_batches_on(tmp_path):
    model = a_model()
    first, second = TensorBoard(tmp_path, update_freq="batch"), TensorBoard(tmp_path, update_freq="batch")
    fit(model, first, epochs=1)
    second.set_model(model)
    second.on_train_begin()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    second.on_epoch_begin(1)
    second.on_train_batch_end(0, {"loss": 0.5})
    second.on_train_end()
    assert list(numbers(read(tmp_path / "train")[0], "batch_loss")) == [1, 2, 3, 4, 5, 6]


def test_weights_are_histograms_and_pictures(tmp_path):
    model = a_model()
    fit(model, TensorBoard(tmp_path, histogram_freq=2, write_images=True), epochs=3)
    train, events = read(tmp_path / "train")
    tags = {"dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"}
    assert {tag for tag in train if tag.endswith("histogram")} == {f"{tag}/histogram" for tag in tags}
    _, (step, last) = train["dense/kernel/histogram"]
    assert step == 2
    kernel = np.asarray(model.layers[0].get_weights()[0])
    assert last[:, 2].sum() == kernel.size
    assert last[0, 0] == pytest.approx(kernel.min())
    assert last[-1, 1] == pytest.approx(kernel.max())
    counts, _ = np.histogram(kernel, 30)
    assert last[:, 2].tolist() == counts.tolist()
    width, height, png = train["dense/kernel/image"][-1][1]
    assert (width, height) == (b"4", b"3")
    assert events.SummaryMetadata("dense/kernel/image").plugin_data.plugin_name == "images"

    from PIL import Image

    scaled = (kernel - kernel.min()) / (kernel.max() - kernel.min()) * 255
    np.testing.assert_allclose(np.asarray(Image.open(io.BytesIO(png))), scaled, atol=0.51)


def test_histograms_are_of_what_is_finite(tmp_path):
    writer = EventWriter(tmp_path)
    values = {"some": [1.0, np.nan, 3.0, np.inf], "none": [np.nan], "equal": [2.0, 2.0], "empty": []}
    for tag, array in values.items():
        writer.histogram(tag, np.array(array), 0)
    writer.close()
    read_back, _ = read(tmp_path)
    found = {tag: array[0][1] for tag, array in read_back.items()}
    assert {tag: array[:, 2].sum() for tag, array in found.items()} == {
        "some": 2,
        "none": 0,
        "equal": 2,
        "empty": 0,
    }
    assert found["some"][0, 0] == 1.0
    assert found["some"][-1, 1] == 3.0
    assert found["equal"][-1].tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("shape", "pictures"),
    [
        ((), (1, 1, 1, 1)),
        ((5,), (1, 5, 1, 1)),
        ((5, 2), (1, 2, 5, 1)),
        ((2, 5), (1, 2, 5, 1)),
        ((3, 4, 2), (2, 3, 4, 1)),
        ((3, 4, 5, 3), (3, 4, 5, 3)),
        ((3, 4, 5, 6), None),
        ((2, 2, 2, 2, 2), None),
        ((0, 3), None),
    ],
    ids=str,
)
def test_weights_lie_in_pictures_as_in_keras(shape, pictures):
    found = weight_images(RNG.normal(size=shape))
    assert (None if found is None else found.shape) == pictures


def test_the_graph_is_that_of_the_layers(tmp_path):
    inputs = Input((3,), name="features")
    left, right = Dense(1, name="left")(inputs), Dense(1, name="right")(inputs)
    model = Model(inputs, Add(name="sum")([left, right]))
    model.compile("sgd", "mse")
    fit(model, TensorBoard(tmp_path), epochs=1, validation_data=None)
    graph = read(tmp_path / "train")[1].Graph()
    nodes = {node.name: (node.op, list(node.input)) for node in graph.node}
    assert nodes["sum"] == ("Add", ["left", "right"])
    assert nodes["left"] == ("Dense", ["features"])
    fit(model, TensorBoard(tmp_path / "without", write_graph=False), epochs=1)
    assert not read(tmp_path / "without" / "train")[1].Tags()["graph"]


def test_the_graph_of_a_model_that_states_nothing_has_its_parts():
    class Two(Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = Dense(2), Dense(1)

        def call(self, x):
            return self.second(self.first(x))

    model = Two()
    model(X)
    assert graph_nodes(model) == {"dense": ("Dense", []), "dense_1": ("Dense", [])}
    assert graph_nodes(a_model())["dense_1"] == ("Dense", ["dense"])


def test_embeddings_are_tables_for_the_projector(tmp_path):
    model = Sequential([Input((2,), dtype="int32"), Embedding(5, 3, name="words"), Flatten(), Dense(1)])
    model.compile("sgd", "mse")
    callback = TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata={"words": "words.tsv"})
    model.fit(np.zeros((4, 2), "int32"), Y[:4], verbose=0, callbacks=[callback])
    table = np.loadtxt(tmp_path / "train" / "words.tsv")
    np.testing.assert_allclose(table, np.asarray(model.layers[0].get_weights()[0]), rtol=1e-6)

    from google.protobuf import text_format
    from tensorboard.plugins.projector import ProjectorConfig

    text = (tmp_path / "train" / "projector_config.pbtxt").read_text()
    (entry,) = text_format.Parse(text, ProjectorConfig()).embeddings
    assert (entry.tensor_name, entry.tensor_path) == ("words", "words.tsv")
    assert list(entry.tensor_shape) == [5, 3]
    assert entry.metadata_path == str(tmp_path / "words.tsv")

    wrong = TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata={"wrods": "words.tsv"})
    with pytest.raises(ValueError, match=r"names 'wrods', expected Embedding layers of the model: 'words'"):
        model.fit(np.zeros((4, 2), "int32"), Y[:4], verbose=0, callbacks=[wrong])


@pytest.mark.slow
def test_batches_are_profiled(tmp_path):
    fit(a_model(), TensorBoard(tmp_path, profile_batch=(2, 3)), epochs=1)
    assert list((tmp_path / "train" / "plugins" / "profile").rglob("*.xplane.pb"))


@pytest.mark.parametrize("value", [-1, (3, 2), (0, 2), "a", (1, 2, 3), 1.5, None, True], ids=repr)
def test_batches_to_profile_that_are_none_are_refused(value):
    with pytest.raises(ValueError, match=r"profile_batch is .*, expected the number of a step"):
        TensorBoard(profile_batch=value)


@pytest.mark.parametrize("name", ["histogram_freq", "embeddings_freq"])
def test_frequencies_are_checked(name):
    with pytest.raises(ValueError, match=rf"TensorBoard: {name} is -1, expected a number of epochs"):
        TensorBoard(**{name: -1})


def test_arguments_without_effect_are_said(tmp_path):
    with pytest.warns(UserWarning, match=r"write_images has no effect while histogram_freq is 0"):
        TensorBoard(write_images=True)
    with pytest.warns(UserWarning, match=r"embeddings_metadata has no effect while embeddings_freq is 0"):
        TensorBoard(embeddings_metadata="words.tsv")
    with pytest.raises(
        ValueError, match=r"write_gradients is True and histogram_freq 0.*Pass histogram_freq=1"
    ):
        TensorBoard(write_gradients=True)
    with pytest.warns(UserWarning, match=r"has no Embedding layer"):
        fit(a_model(), TensorBoard(tmp_path, embeddings_freq=1), epochs=1)


def test_a_folder_that_cannot_be_written_is_said_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"TensorBoard: the folder .* cannot be written"):
        fit(a_model(), TensorBoard(tmp_path / "file"))


def test_only_process_0_writes(tmp_path, monkeypatch):
    model = a_model()
    callback = TensorBoard(tmp_path / "logs", histogram_freq=1, update_freq="batch")
    callback.set_model(model)
    monkeypatch.setattr("jax.process_index", lambda: 1)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_train_batch_end(0, {"loss": 1.0})
    callback.on_epoch_end(0, {"loss": 1.0, "val_loss": 1.0})
    callback.on_test_end({"loss": 1.0})
    callback.on_train_end()
    assert not (tmp_path / "logs").exists()


def test_without_batches_no_hook_of_batches_is_called():
    from easyflax.train.callback_list import overrides

    assert not overrides(TensorBoard(), "on_train_batch_end")
    assert not overrides(TensorBoard(update_freq="batch"), "on_train_batch_begin")
    assert overrides(TensorBoard(profile_batch=2), "on_train_batch_begin")


def test_gradients_are_histograms_of_the_newest_update(tmp_path):
    model = a_model()
    before = [np.asarray(weight) for weight in model.get_weights()]
    fit(model, TensorBoard(tmp_path, histogram_freq=1, write_gradients=True), epochs=1, batch_size=20)
    train, _ = read(tmp_path / "train")
    steps = [old - np.asarray(new) for old, new in zip(before, model.get_weights())]
    for tag, step in zip(("dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"), steps):
        buckets = train[f"{tag}/gradient/histogram"][0][1]
        assert buckets[:, 2].sum() == step.size
        edges = buckets[0, 0], buckets[-1, 1]
        assert edges == pytest.approx((step.min() / 0.01, step.max() / 0.01), rel=1e-4, abs=1e-6)


def test_gradients_that_a_train_step_keeps_are_asked_for(tmp_path):
    class Own(Model):
        def __init__(self):
            super().__init__()
            self.dense = Dense(1)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            x, y = data
            import easyflax.nnx as nnx

            loss, grads = nnx.value_and_grad(lambda model: ((model(x) - y) ** 2).mean())(self)
            self.optimizer.update(self, grads)
            return {"loss": loss}

    model = Own()
    model.compile("sgd", "mse")
    callback = TensorBoard(tmp_path, histogram_freq=1, write_gradients=True)
    with pytest.raises(
        ValueError, match=r"tensorboard_gradients needs the gradients, and the model's own train"
    ):
        fit(model, callback, epochs=1)

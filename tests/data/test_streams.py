"""Datasets and loaders of other libraries, for real where they are installed."""

import itertools

import grain
import numpy as np
import pytest

from easyflax.data import as_source, columns

ROWS = np.arange(10)


def _rows(batches):
    return [np.ravel(batch.x).tolist() for batch in batches]


def _joined(lists):
    return list(itertools.chain.from_iterable(lists))


# -- grain


def _grain_dataset():
    return grain.MapDataset.source(ROWS).shuffle(seed=1).map(lambda row: (row, row * 2)).batch(4)


@pytest.mark.parametrize("kind", ["MapDataset", "IterDataset"])
def test_a_grain_dataset_gives_each_epoch_what_iterating_it_gives(kind):
    dataset = _grain_dataset() if kind == "MapDataset" else _grain_dataset().to_iter_dataset()
    expected = [x.tolist() for x, _ in dataset]
    source = as_source(dataset)
    assert source.num_batches == (3 if kind == "MapDataset" else None)
    for number in range(2):
        batches = list(source.epoch(number))
        assert _rows(batches) == expected
        assert all(np.array_equal(batch.x * 2, batch.y) for batch in batches)


@pytest.mark.parametrize("kind", ["MapDataset", "IterDataset"])
def test_a_grain_dataset_without_end_needs_steps_and_shuffles_anew(kind):
    dataset = grain.MapDataset.source(ROWS).shuffle(seed=1).repeat().batch(5)
    dataset = dataset if kind == "MapDataset" else dataset.to_iter_dataset()
    with pytest.raises(
        ValueError, match=r"fit: x is of type grain\.\w+ without end and steps_per_epoch is None"
    ):
        as_source(dataset)
    source = as_source(dataset, steps=2)
    epochs = [_joined(_rows(source.epoch(number, 2))) for number in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == ROWS.tolist()
    assert epochs[0] != epochs[1]


def _grain_loader(num_epochs, workers=0):
    sampler = grain.samplers.IndexSampler(10, shuffle=True, seed=0, num_epochs=num_epochs)
    return grain.DataLoader(
        data_source=ROWS,
        sampler=sampler,
        operations=[grain.transforms.Batch(4)],
        worker_count=workers,
    )


def test_a_grain_loader_is_read_anew_each_epoch():
    source = as_source(_grain_loader(1))
    first, second = (_rows(source.epoch(number)) for number in range(2))
    assert first == second
    assert sorted(_joined(first)) == ROWS.tolist()


def test_a_grain_loader_without_end_needs_steps():
    with pytest.raises(ValueError, match=r"x is of type grain\.DataLoader without end"):
        as_source(_grain_loader(None))


@pytest.mark.parametrize("make", [_grain_dataset, lambda: _grain_loader(1)], ids=["dataset", "loader"])
def test_grain_goes_on_from_its_own_state(make):
    first = as_source(make())
    batches = first.epoch(0)
    next(batches)
    state = first.state()
    assert state["iterator"] is not None
    rest = _rows(batches)
    second = as_source(make())
    second.set_state(state)
    assert _rows(second.epoch(0)) == rest


# -- torch


def test_a_loader_of_torch_is_read_anew_each_epoch():
    data = pytest.importorskip("torch.utils.data")
    torch = pytest.importorskip("torch")
    table = data.TensorDataset(torch.arange(10.0, dtype=torch.float64), torch.arange(10) * 2)
    source = as_source(data.DataLoader(table, batch_size=4), class_weight={2: 3.0})
    assert source.num_batches == 3
    for number in range(2):
        batches = list(source.epoch(number))
        assert _rows(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        assert [batch.y.dtype.name for batch in batches] == ["int32"] * 3
        assert batches[0].sample_weight.tolist() == [1, 3, 1, 1]
    with pytest.warns(UserWarning, match=r"batch_size is 2 and x is of type torch\.DataLoader"):
        as_source(data.DataLoader(table), batch_size=2)


def test_rows_of_a_torch_dataset_are_batched_and_shuffled_by_seed_and_epoch():
    data = pytest.importorskip("torch.utils.data")
    torch = pytest.importorskip("torch")

    class Table(data.Dataset):
        def __len__(self):
            return 10

        def __getitem__(self, index):
            return {"a": torch.tensor([float(index)]), "b": index}, index % 3

    source = as_source(Table(), batch_size=4)
    assert (source.num_rows, source.num_batches, source.batch_size) == (10, 3, 4)
    batch = source.first_batch()
    assert batch.x["a"].tolist() == [[0], [1], [2], [3]]
    assert batch.x["b"].dtype == np.int32
    assert batch.y.tolist() == [0, 1, 2, 0]
    shuffled = as_source(Table(), shuffle=True, seed=3, batch_size=4)
    epochs = [[batch.x["b"].tolist() for batch in shuffled.epoch(number)] for number in (0, 1, 0)]
    assert epochs[0] == epochs[2] != epochs[1]
    assert sorted(_joined(epochs[0])) == ROWS.tolist()
    as_arrays = as_source(ROWS, shuffle=True, seed=3, batch_size=4)
    assert epochs[0] == _rows(as_arrays.epoch(0))


@pytest.mark.parametrize("has_own_rows", [False, True])
def test_rows_of_tensors_are_taken_together_if_the_dataset_does_no_more(has_own_rows):
    data = pytest.importorskip("torch.utils.data")
    torch = pytest.importorskip("torch")
    asked = []

    class TensorDataset(data.TensorDataset):
        def __getitem__(self, index):
            asked.append(index)
            return tuple(tensor + 1 for tensor in super().__getitem__(index))

    x, y = np.arange(20, dtype=np.float32).reshape(10, 2), np.arange(10)
    kind = TensorDataset if has_own_rows else data.TensorDataset
    source = as_source(kind(torch.tensor(x), torch.tensor(y)), shuffle=True, seed=3, batch_size=4)
    for batch, expected in zip(source.epoch(1), as_source(x, y, shuffle=True, seed=3, batch_size=4).epoch(1)):
        assert np.array_equal(batch.x, expected.x + has_own_rows)
        assert np.array_equal(batch.y, expected.y + has_own_rows)
        assert (batch.x.dtype, batch.y.dtype) == (np.float32, np.int32)
    assert len(asked) == 10 * has_own_rows


def test_rows_of_an_iterable_torch_dataset_are_batched():
    data = pytest.importorskip("torch.utils.data")

    class Lines(data.IterableDataset):
        def __iter__(self):
            return ((np.float32(row), row) for row in range(5))

    source = as_source(Lines(), batch_size=2)
    assert [_rows(source.epoch(number)) for number in range(2)] == [[[0, 1], [2, 3], [4]]] * 2


def test_rows_of_several_shapes_are_refused():
    data = pytest.importorskip("torch.utils.data")

    class Ragged(data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.zeros(index + 1), 0

    with pytest.raises(
        ValueError, match=r"rows of a batch have shapes \(1,\) and \(2,\) at \[0\], expected one"
    ):
        as_source(Ragged()).first_batch()


# -- tf.data, by its interface


class FakeTensorFlowDataset:
    def __init__(self, cardinality):
        self._cardinality = cardinality

    def cardinality(self):
        return np.int64(self._cardinality)

    def as_numpy_iterator(self):
        return ((np.full(2, number), np.full(2, number)) for number in range(3))

    def __iter__(self):
        raise AssertionError("tensors are not wanted")


def test_a_dataset_of_tensorflow_is_read_as_arrays():
    source = as_source(FakeTensorFlowDataset(3))
    assert source.num_batches == 3
    assert [_rows(source.epoch(number)) for number in range(2)] == [[[0, 0], [1, 1], [2, 2]]] * 2
    assert as_source(FakeTensorFlowDataset(-2)).num_batches is None
    with pytest.raises(ValueError, match="without end and steps_per_epoch is None"):
        as_source(FakeTensorFlowDataset(-1))


# -- columns


TABLE = [
    {"age": np.array([1.0, 2.0]), "size": np.array([3.0, 4.0]), "label": np.array([0, 1]), "w": np.ones(2)}
]


def test_columns_name_inputs_targets_and_weights():
    batch = as_source(columns(TABLE, x="age", y="label", sample_weight="w")).first_batch()
    assert batch.x.tolist() == [1, 2]
    assert batch.y.tolist() == [0, 1]
    assert batch.sample_weight.tolist() == [1, 1]
    batch = as_source(columns(TABLE, x=["size", "age"], y=["label"])).first_batch()
    assert sorted(batch.x) == ["age", "size"]
    assert list(batch.y) == ["label"]


def test_unnamed_columns_are_inputs_and_names_may_stand_for_targets():
    batch = as_source(iter(TABLE), "label", "w").first_batch()
    assert sorted(batch.x) == ["age", "size"]
    assert batch.sample_weight is not None


def test_columns_that_are_not_there_are_named():
    with pytest.raises(
        ValueError, match=r"fit: batch 1 of epoch 1: The data have no column 'y', expected one of"
    ):
        as_source(columns(TABLE, y="y")).first_batch()
    with pytest.raises(ValueError, match=r"The data are a ndarray, expected a dict of columns"):
        as_source(columns([np.zeros(2)], y="y")).first_batch()
    with pytest.raises(TypeError, match=r"columns: y is a int, expected the name of a column or a list"):
        columns(TABLE, y=1)


def test_a_dataset_of_hugging_face_is_batched_by_its_columns():
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"a": [[row, row] for row in range(5)], "label": [0, 1, 0, 1, 0]})
    source = as_source(table, "label", batch_size=2)
    assert [batch.x.tolist() for batch in source.epoch(0)] == [[[0, 0], [1, 1]], [[2, 2], [3, 3]], [[4, 4]]]
    assert source.first_batch().y.tolist() == [0, 1]
    stream = as_source(columns(table.to_iterable_dataset(), x=["a"], y="label"), batch_size=2)
    assert [batch.x["a"].shape for batch in stream.epoch(0)] == [(2, 2), (2, 2), (1, 2)]
    with pytest.raises(
        ValueError, match=r"x is a datasets\.DatasetDict of 'train', expected one.*\['train'\]"
    ):
        as_source(datasets.DatasetDict({"train": table}))

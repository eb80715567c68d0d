"""What is read in whole batches, against grain reading the same row by row."""

import itertools
import json

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax.data import as_source
from easyflax.data.grain_arrays import pipeline_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(11, 3)).astype(np.float32)
Y = RNG.integers(0, 5, size=11)
MANY = np.arange(70_000)
Zip = grain.experimental.ZipMapDataset


def _source(array=X):
    return grain.MapDataset.source(array)


def _pair():
    return Zip([_source(), _source(Y)])


def _sampled(sampler, data=X, **options):
    operations = [grain.transforms.Batch(4, drop_remainder=options.pop("drop_remainder", False))]
    return grain.DataLoader(data_source=data, sampler=sampler, operations=operations, **options)


def _indices(**options):
    return grain.samplers.IndexSampler(11, **({"seed": 3} | options))


SHARDS = grain.sharding.ShardOptions(shard_index=1, shard_count=3)
DROPPING = grain.sharding.ShardOptions(shard_index=1, shard_count=3, drop_remainder=True)
KNOWN = {
    "batched": _source().batch(4),
    "labels": _source(Y).batch(4),
    "one_row_a_batch": _source().batch(1),
    "dropping": _source().batch(4, drop_remainder=True),
    "range": grain.MapDataset.range(3, 40, 4).shuffle(seed=1).batch(3),
    "shuffled": _source().shuffle(seed=1).batch(4),
    "shuffled_large_seed": _source().shuffle(seed=2**32 - 1).repeat(3).batch(4),
    "shuffled_twice": _source().shuffle(seed=1).shuffle(seed=2).repeat(2).batch(4),
    "seeded": _source().seed(7).shuffle().batch(4),
    "repeated": _source().shuffle(seed=1).repeat(3).batch(4),
    "repeated_alike": _source().shuffle(seed=1).repeat(3, reseed_each_epoch=False).batch(4),
    "shuffled_across_passes": _source().repeat(3).shuffle(seed=1).batch(4),
    "repeated_batches": _source().shuffle(seed=1).batch(4).repeat(3),
    "shuffled_batches": _source().batch(4).shuffle(seed=1).repeat(2),
    "sliced": _source()[1::3].shuffle(seed=1).repeat(2).batch(2),
    "sliced_backwards": _source()[8:1:-2].repeat(2).batch(3),
    "sliced_batches": _source().shuffle(seed=1).batch(2)[1:4].repeat(2),
    "zipped": _pair().shuffle(seed=1).repeat(2).batch(4),
    "zipped_in_zipped": Zip([_pair(), _source(X[:, 0].copy())]).batch(4),
    "zipped_shuffled": Zip([_source().shuffle(seed=5), _source(Y).shuffle(seed=5)]).batch(4),
    "zipped_batches": Zip([_source().batch(4), _source(Y).batch(4)]).repeat(2),
    "columns_first": _source(np.asfortranarray(X)).shuffle(seed=1).batch(4),
    "jax": _source(jnp.asarray(X)).batch(4),
    "bfloat16": _source(X.astype(jnp.bfloat16)).batch(4),
    "bool": _source(Y > 2).batch(4),
    "iterated": _pair().shuffle(seed=1).batch(4).to_iter_dataset(),
    "batched_iterated": _pair().shuffle(seed=1).repeat(2).to_iter_dataset().batch(4),
    "batched_iterated_dropping": _pair().to_iter_dataset().batch(4, drop_remainder=True),
    "loader": _sampled(_indices(num_epochs=2)),
    "loader_dropping": _sampled(_indices(num_epochs=2), drop_remainder=True),
    "loader_shuffled": _sampled(_indices(num_epochs=2, shuffle=True)),
    "loader_sharded": _sampled(_indices(num_epochs=3, shuffle=True, shard_options=SHARDS)),
    "loader_sharded_dropping": _sampled(_indices(num_epochs=3, shuffle=True, shard_options=DROPPING)),
    "loader_sequential": _sampled(grain.samplers.SequentialSampler(11, seed=1)),
    "loader_own_shards": _sampled(grain.samplers.SequentialSampler(11), shard_options=SHARDS),
    "many": _source(MANY).shuffle(seed=1).repeat(2)[69_990:70_010].batch(7),
}


class Rows:
    def __len__(self):
        return 11

    def __getitem__(self, index):
        return X[index]


class Masked(np.ndarray):
    pass


UNKNOWN = {
    "own_source": grain.MapDataset.source(Rows()).batch(4),
    "list": grain.MapDataset.source([1, 2, 3]).batch(2),
    "subclass": _source(X.view(Masked)).batch(4),
    "strings": _source(np.array(["a", "bc", "def"])).batch(2),
    "objects": _source(np.array([1, 2.5, 3], object)).batch(2),
    "other_byte_order": _source(X.astype(">f4")).batch(4),
    "map": _source().map(lambda row: row + 1).batch(4),
    "map_batches": _source().batch(4).map(lambda batch: batch + 1),
    "map_with_index": _source().map_with_index(lambda index, row: row + index).batch(4),
    "random_map": _source().random_map(lambda row, rng: row + rng.normal(), seed=1).batch(4),
    "filter": _source().filter(lambda row: row[0] > 0).to_iter_dataset().batch(4),
    "own_batching": _source().batch(4, batch_fn=lambda rows: np.stack(rows) + 1),
    "rows": _source().shuffle(seed=1),
    "mixed": grain.MapDataset.mix([_source(), _source()]).batch(4),
    "loader_map": grain.DataLoader(data_source=X, sampler=_indices(num_epochs=1)),
    "empty": _source()[3:3].batch(4),
}


def _same(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second)):
        assert type(a) is type(b) is np.ndarray
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", KNOWN)
def test_batches_and_states_are_those_of_grain(name):
    pipeline, own = pipeline_of(KNOWN[name]), iter(KNOWN[name])
    assert pipeline is not None
    states = []
    for batch in (batches := iter(pipeline)):
        _same(next(own), batch)
        assert batches.get_state() == own.get_state()
        states.append(own.get_state())
    with pytest.raises(StopIteration):
        next(own)
    for state, following in list(itertools.pairwise(states))[-1:]:
        batches.set_state(state)
        own.set_state(state)
        _same(next(own), next(batches))
        assert batches.get_state() == own.get_state() == following


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_does_more_than_choose_rows_is_left_to_grain(name):
    assert pipeline_of(UNKNOWN[name]) is None


def test_a_dataset_without_end_is_read_on_and_on():
    dataset = _source().shuffle(seed=1).repeat().batch(4)
    for batch, number in zip(iter(pipeline_of(dataset)), range(7)):
        _same(dataset[number], batch)


def test_a_loader_without_end_is_read_on_and_on():
    loader = _sampled(_indices(num_epochs=None, shuffle=True))
    for batch, expected in itertools.islice(zip(iter(pipeline_of(loader)), loader), 7):
        _same(expected, batch)


def test_a_state_of_another_loader_is_refused():
    state = iter(_sampled(_indices(num_epochs=2))).get_state()
    batches = iter(pipeline_of(_sampled(_indices(num_epochs=3))))
    with pytest.raises(ValueError, match="Sampler in checkpoint does not match"):
        batches.set_state(state)
    assert json.loads(state)["worker_count"] == 0


@pytest.mark.parametrize("name", ["_seed", "_step", "parents"])
def test_what_another_version_does_not_have_is_left_to_grain(name, monkeypatch):
    dataset = _source()[1:].shuffle(seed=1).batch(4)
    node = {"_seed": dataset.parents[0], "_step": dataset.parents[0].parents[0], "parents": dataset}[name]
    if name == "parents":
        monkeypatch.delattr(grain.MapDataset, name)
    else:
        monkeypatch.delattr(node, name)
    assert pipeline_of(dataset) is None


def test_what_another_version_orders_otherwise_is_left_to_grain(monkeypatch):
    dataset = _source().shuffle(seed=1).batch(4)
    monkeypatch.setattr(type(dataset.parents[0]), "_shuffled_index", lambda self, index: index)
    assert pipeline_of(dataset) is None


def test_a_fit_reads_a_pipeline_in_whole_batches(monkeypatch):
    dataset = _pair().shuffle(seed=1).batch(4)
    expected = list(dataset)
    source = as_source(dataset)
    first = list(source.epoch(0))
    monkeypatch.setattr(type(dataset), "__getitem__", lambda *_: pytest.fail("row by row"))
    for batches in (first, list(source.epoch(1))):
        for batch, (x, y) in zip(batches, expected, strict=True):
            assert np.array_equal(batch.x, x)
            assert np.array_equal(batch.y, y)

import numpy as np
import pytest

from easyflax.data import as_source, to_host_arrays


def test_a_data_frame_is_one_array_and_a_series_one_column():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4], "c": [True, False]})
    assert to_host_arrays(frame, "x").tolist() == [[1, 3, 1], [2, 4, 0]]
    assert to_host_arrays(frame, "x").dtype == np.float32
    assert to_host_arrays(frame["b"], "y").tolist() == [[3], [4]]
    assert to_host_arrays(frame["b"], "y").dtype == np.int32
    columns = to_host_arrays({"a": frame["a"], "rest": frame[["b", "c"]]}, "x")
    assert {name: column.shape for name, column in columns.items()} == {"a": (2, 1), "rest": (2, 2)}


def test_weights_and_labels_may_be_series_of_any_index():
    pd = pytest.importorskip("pandas")
    y, weight = pd.Series([0, 1, 1], index=[7, 7, 9]), pd.Series([1.0, 2.0, 3.0], index=list("abc"))
    batch = as_source(np.zeros((3, 2)), y, weight).first_batch()
    assert batch.y.tolist() == [[0], [1], [1]]
    assert batch.sample_weight.tolist() == [[1], [2], [3]]
    assert as_source(np.zeros(3), y, class_weight={1: 4}).first_batch().sample_weight.tolist() == [1, 4, 4]


def test_nullable_columns_without_gaps_are_numbers():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": pd.array([1, 2], dtype="Int64"), "b": [0.5, None]})
    values = to_host_arrays(frame, "x")
    assert values[0].tolist() == [1, 0.5]
    assert np.isnan(values[1, 1])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["u", "v"], r"x has a column 'k' of dtype (str|object), expected numbers\. Encode"),
        ("missing", r"x misses values in column 'k', expected an integer in every row\. Fill"),
        ("category", r"x has a column 'k' of dtype category, expected numbers"),
    ],
    ids=["strings", "missing", "category"],
)
def test_columns_that_are_no_numbers_are_named(column, message):
    pd = pytest.importorskip("pandas")
    values = {"missing": pd.array([1, None], dtype="Int64"), "category": pd.Categorical(["u", "v"])}
    frame = pd.DataFrame({"ok": [1, 2], "k": values[column] if isinstance(column, str) else column})
    with pytest.raises(ValueError, match=message):
        to_host_arrays(frame, "x")


def test_tensors_of_torch_are_arrays_without_a_copy():
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6, dtype=torch.float32).reshape(3, 2).requires_grad_()
    array = to_host_arrays(tensor, "x")
    assert np.shares_memory(array, tensor.detach().numpy())
    assert to_host_arrays(torch.ones(2, dtype=torch.bfloat16), "x").dtype.name == "bfloat16"
    assert to_host_arrays(torch.ones(2, dtype=torch.int64), "x").dtype == np.int32


def test_what_offers_itself_as_an_array_is_one():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return np.arange(3, dtype=np.uint8)

    assert to_host_arrays({"a": Tensor()}, "x")["a"].dtype == np.uint8


def test_sparse_matrices_are_asked_for_as_arrays():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(ValueError, match=r"x is of type scipy\.csr_matrix, expected .*its toarray\(\)"):
        to_host_arrays(sparse.csr_matrix(np.eye(2)), "x")


def test_keys_of_several_types_are_refused():
    with pytest.raises(ValueError, match=r"x is a dict whose keys cannot be compared.*Name the arrays by"):
        to_host_arrays({"a": np.zeros(2), 1: np.zeros(2)}, "x")

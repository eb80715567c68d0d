"""How data becomes batches: sources, the checks on what users hand over, and the order of the rows.

    as_source(x, y, batch_size=32)    ->  a Source
    source.epoch(number, steps)       ->  Batch, Batch, ...

A `Source` gives the batches of epoch after epoch, whatever the data come from: `arrays.py` is the source over
arrays in memory, `row_source.py` over datasets of numbered rows, `py_dataset.py` over datasets of numbered
batches, and `stream.py` over what is read one batch after the other. `recognise.py` tells them apart.
"""

from easyflax.data.arrays import ArraySource
from easyflax.data.columns import columns
from easyflax.data.convert import to_host_arrays
from easyflax.data.recognise import as_source
from easyflax.data.rows import batch_rows, pad_batch
from easyflax.data.source import Batch, Source
from easyflax.data.splitting import split_validation, unpack_validation_data
from easyflax.data.watched import WatchedSource, rebatched

__all__ = [
    "ArraySource",
    "Batch",
    "Source",
    "WatchedSource",
    "as_source",
    "batch_rows",
    "columns",
    "pad_batch",
    "rebatched",
    "split_validation",
    "to_host_arrays",
    "unpack_validation_data",
]

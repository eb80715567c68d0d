"""How data becomes batches: sources, the checks on what users hand over, and the order of the rows.

    as_batches(x, y, batch_size=32)   ->  a Source
    source.batches(start, stop)       ->  Batch, Batch, ...

A `Source` numbers its batches from zero and without end, pass after pass over the data, so that a position in
the data is one integer and training can start anywhere. `arrays.py` is the source over NumPy and JAX arrays.
"""

from easyflax.data.arrays import ArraySource, as_batches
from easyflax.data.convert import to_host_arrays
from easyflax.data.source import Batch, Source
from easyflax.data.splitting import split_validation, unpack_validation_data

__all__ = [
    "ArraySource",
    "Batch",
    "Source",
    "as_batches",
    "split_validation",
    "to_host_arrays",
    "unpack_validation_data",
]

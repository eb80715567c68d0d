"""Writes the tables of embedding layers for TensorBoard's projector."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

import easyflax.nnx as nnx
from easyflax.layers import Embedding
from easyflax.models.outline import module_in

__all__ = ["write_projector"]


def write_projector(
    model: Any,
    folder: str | os.PathLike[str],
    log_dir: str | os.PathLike[str],
    metadata: str | Mapping[str, str] | None = None,
) -> None:
    """Writes the present tables of all `Embedding` layers of a model, and what the projector asks for.

    Args:
        model: the model.
        folder: of the run.
        log_dir: what names of metadata files are relative to.
        metadata: a file that names the rows of each table, or a dict of such files by the names of layers.

    Raises:
        ValueError: `metadata` names a layer that is no embedding of the model.
    """
    from google.protobuf import text_format
    from tensorboard.plugins import projector

    layers = {layer.name: layer for layer in _embeddings(model)}
    files = _files_by_layer(metadata, layers)
    if not layers:
        warnings.warn(
            "TensorBoard: embeddings_freq is given and the model has no Embedding layer: there is nothing "
            "for the projector.",
            stacklevel=2,
        )
    config = vars(projector)["ProjectorConfig"]()  # made where the module is loaded
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, layer in layers.items():
        table = np.asarray(jax.device_get(layer.embeddings.get_raw_value()), float)
        np.savetxt(Path(folder, f"{name}.tsv"), table, fmt="%.8g", delimiter="\t")
        entry = config.embeddings.add(tensor_name=name, tensor_path=f"{name}.tsv", tensor_shape=table.shape)
        if name in files:
            entry.metadata_path = os.path.abspath(os.path.join(log_dir, files[name]))
    Path(folder, "projector_config.pbtxt").write_text(text_format.MessageToString(config))


def _embeddings(model: Any) -> list[Any]:
    module = module_in(model)
    found = {id(inner): inner for _, inner in nnx.iter_modules(module) if isinstance(inner, Embedding)}
    return list(found.values())


def _files_by_layer(metadata: str | Mapping[str, str] | None, layers: Mapping[str, Any]) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        return dict.fromkeys(layers, os.fspath(metadata))
    unknown = sorted(set(metadata) - set(layers))
    if unknown:
        raise ValueError(
            f"TensorBoard: embeddings_metadata names {', '.join(map(repr, unknown))}, expected Embedding "
            f"layers of the model: {', '.join(map(repr, layers)) or 'there are none'}. Pass their names."
        )
    return dict(metadata)

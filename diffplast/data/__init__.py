"""The data sets, each prepared once into one file; what its arrays look like is in `diffplast.core.dataset`.

A new data set is one function `prepare_...(**options) -> (arrays, provenance)` and one line in `DATA_SETS`.
"""

import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from diffplast.core.dataset import DataError, digest, write
from diffplast.core.errors import UserError

__all__ = ["DATA_SETS", "DataError", "options_model", "prepare", "preparer"]

# kind -> name as in params.yaml -> its preparer.
DATA_SETS = {
    "images": {
        "natural-patches": "diffplast.data.natural_patches:prepare_natural_patches",
        "cifar10": "diffplast.data.cifar10:prepare_cifar10",
        "folder": "diffplast.data.folder:prepare_image_folder",
    },
    "omniglot": {
        "glyphs": "diffplast.data.glyphs:prepare_glyphs",
        "omniglot": "diffplast.data.omniglot:prepare_omniglot",
        "folder": "diffplast.data.folder:prepare_character_folder",
    },
}


def preparer(kind: str, name: str):
    """The function that prepares data set `name` of `kind`.

    Raises ValueError for an unknown kind or name, with the known ones.
    """
    if kind not in DATA_SETS:
        raise ValueError(f"unknown kind of data {kind!r}; known: {', '.join(DATA_SETS)}")
    if name not in DATA_SETS[kind]:
        raise ValueError(f"unknown data set {name!r} for {kind}; known: {', '.join(DATA_SETS[kind])}")
    module, function = DATA_SETS[kind][name].split(":")
    return getattr(import_module(module), function)


def options_model(kind: str, name: str) -> type[BaseModel]:
    """Schema of a data set's options in params.yaml: the arguments of its preparer, all needed, no others allowed."""
    arguments = inspect.signature(preparer(kind, name)).parameters.values()
    fields = {argument.name: (argument.annotation, ...) for argument in arguments}
    return create_model(f"{name} options", __config__=ConfigDict(extra="forbid", strict=True), **fields)


def prepare(kind: str, name: str, options: Mapping, path: str | Path) -> dict:
    """Prepare a data set, write it to `path` (.npz) and return its provenance, ready for json.dump.

    kind: "images" or "omniglot"; name: a key of `DATA_SETS[kind]`; options: arguments of its preparer.
    The same options give the same bytes. The provenance names sources, versions, licence, counts, the options
    and the sha256 of the pixels (`dataset.digest`).
    Raises ValueError for an unknown kind or name, UserError for options that are missing, unknown or out of range,
    DataError for a source that cannot be had or used, and where `path` cannot be written.
    """
    try:
        checked = options_model(kind, name).model_validate(options)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise UserError(f"data.{kind}.{name} in params.yaml: {'; '.join(problems)}") from None
    arrays, provenance = preparer(kind, name)(**dict(checked))
    write(path, kind, arrays)
    return {
        "kind": kind,
        "name": name,
        **provenance,
        "options": checked.model_dump(mode="json"),
        "sha256_pixels": digest(kind, arrays),
    }

"""Parameter files of the device models: JSON, ``{"format": "labctl-filament", "version": 1, "provenance": …, …}``.

Names and units are those of the model's dataclass; what a file leaves out keeps its default. The generative model has
a format of its own, see `generative_params`.
"""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from labctl.errors import LabctlError, StorageError, UsageError

VERSION = 1
P = TypeVar("P")


def format_of(kind: type) -> str:
    """What a file of this dataclass calls itself: "labctl-filament" for `FilamentParams`."""
    return "labctl-" + kind.__name__.removesuffix("Params").lower()


def save_params(path: str | Path, params: Any, provenance: str = "") -> None:
    """Write a parameter file of a dataclass of parameters; raises `StorageError`."""
    data = {"format": format_of(type(params)), "version": VERSION, "provenance": provenance} | asdict(params)
    try:
        Path(path).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"cannot write the parameter file {path}: {error.strerror}; check folder and rights"
        ) from error


def load_params(path: str | Path, kind: type[P]) -> P:
    """The parameters in a file, as the dataclass `kind`.

    Raises `UsageError` for a file of another model or version, and for names and values that are not its own.
    """
    wanted = format_of(kind)
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"cannot read the parameter file {path}: {error.strerror}; give the path of a JSON file"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}); give a parameter file of format {wanted!r}") from error
    found = data.pop("format", None) if isinstance(data, dict) else None
    if found != wanted:
        raise UsageError(
            f"{path} is of format {found!r}, not {wanted!r}; give a file of this model, or name that model"
        )
    version = data.pop("version", None)
    if version != VERSION:
        raise UsageError(
            f"{path} has version {version}; this labctl reads version {VERSION}: fit the recorded data again"
        )
    data.pop("provenance", None)
    known = {item.name: item.type for item in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - set(known)):
        raise UsageError(f"{path}: {', '.join(unknown)} is no parameter of this model; there are {', '.join(known)}")
    try:
        return kind(**data)
    except LabctlError as error:
        raise UsageError(f"{path}: {error}") from error
    except TypeError as error:
        raise UsageError(f"{path}: a value is of the wrong type ({error})") from error

"""Device models by name: those of labctl, and a class in a file of your own, ``FILE.py:CLASS``.

A class of your own is made as ``CLASS((rows, columns), seed=…, temperature=…, …)``. Of the keywords ``seed``,
``temperature``, ``formed``, ``params``, ``effects`` and ``defects`` it gets those that its ``__init__`` takes (all of
them, if it takes ``**``); ``params`` is then the path of the file, or absent. It keeps the promises of
`labctl.models.device.DeviceModel`.
"""

import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.errors import UsageError
from labctl.models.device import DeviceModel
from labctl.models.effects import Defects, Effects

MODELS = {
    "filament": "labctl.models.filament:FilamentArray",
    "generative": "labctl.models.generative_array:GenerativeArray",
    "slider": "labctl.models.slider:SliderArray",
    "multilevel": "labctl.models.multilevel:MultilevelArray",
}
_PROMISED = ("shape", "pulse", "waveform", "read", "wait", "state", "restore")


@dataclass(frozen=True)
class Cells:
    """What a station says about its cells."""

    model: str = "filament"
    parameters: Path | None = None
    formed: bool = True
    temperature: float = 300.0
    effects: Effects | None = None
    defects: Defects | None = None


def build(cells: Cells, shape: tuple[int, int], seed: int) -> DeviceModel:
    """The array of cells. Raises `UsageError` for a model that is not there or cannot be as it is asked."""
    kind = _class(cells.model)
    given: dict[str, Any] = {"seed": seed, "temperature": cells.temperature}
    if not cells.formed:
        given["formed"] = False
    if cells.effects is not None:
        given["effects"] = cells.effects
    if cells.defects is not None and cells.defects != Defects():
        given["defects"] = cells.defects
    if cells.parameters is not None:
        given["params"] = _params(cells.model, cells.parameters, kind)
    taken = inspect.signature(kind).parameters
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values()):
        optional = {"seed", "temperature"}
        if missing := sorted(set(given) - set(taken) - optional):
            raise UsageError(f"model {cells.model} takes no {', '.join(missing)}; leave that out of the station")
        given = {name: value for name, value in given.items() if name in taken}
    device: DeviceModel = kind(shape, **given)
    if lacking := [name for name in _PROMISED if not hasattr(device, name)]:
        raise UsageError(f"model {cells.model} has no {', '.join(lacking)}; see labctl.models.device.DeviceModel")
    if tuple(device.shape) != shape:
        raise UsageError(f"model {cells.model} made an array of shape {device.shape}, not {shape}")
    return device


def _class(model: str) -> type[Any]:
    path, colon, name = model.rpartition(":")
    if model in MODELS:
        module, _, name = MODELS[model].partition(":")
        found: type[Any] = getattr(importlib.import_module(module), name)
        return found
    if not (colon and path.endswith(".py")):
        raise UsageError(f"there is no model {model!r}; there are {', '.join(MODELS)}, or FILE.py:CLASS of your own")
    inner = f"labctl_model_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(inner, path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise UsageError(f"{path} of model {model!r} is not there; give its path relative to the station file")
    module_of = importlib.util.module_from_spec(spec)
    sys.modules[inner] = module_of  # dataclasses and pickle look a class up by its module
    try:
        spec.loader.exec_module(module_of)
    except Exception as error:
        raise UsageError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    own = getattr(module_of, name, None)
    if not isinstance(own, type):
        raise UsageError(f"{path} has no class {name!r}; name the class of your model, as in mymodel.py:MyArray")
    return own


def _params(model: str, path: Path, kind: type[Any]) -> Any:
    """The parameters in `path` as the model takes them."""
    if model == "generative":
        from labctl.models.generative_params import load

        return load(path)
    if model in MODELS:
        from labctl.models.parameter_file import load_params

        return load_params(path, kind.defaults)
    if not path.is_file():
        raise UsageError(f"the parameter file {path} is not there; give its path relative to the station file")
    return path

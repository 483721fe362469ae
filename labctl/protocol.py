"""A protocol is a generator of rows; its signature is its declaration.

    class Point(NamedTuple):
        v: Annotated[float, Q("V", meaning="bit line voltage")]

    @protocol
    def sweep(bench: Bench, v: Annotated[Sequence[float], Q("V", -3, 3, "…")] = (0.0, 1.0)) -> Iterator[Point]: ...

A decorated protocol is still called as a function; the call checks its parameters before anything else happens.
It may yield rows of several NamedTuple types (one table each), `Rows` (a block of rows as columns) and `Trace`.
"""

import importlib
import importlib.metadata
import inspect
import pkgutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, overload

import numpy as np
from numpy.typing import NDArray

from labctl.errors import ParameterError, UsageError
from labctl.quantity import Q, parse, parse_list, si

Value = float | int | bool | str | tuple[float, ...] | tuple[int, ...] | tuple[str, ...]


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: `kind` of a single value, `many` when it is a list, `choices` of a Literal."""

    name: str
    kind: type
    many: bool
    q: Q
    default: Value
    choices: tuple[str, ...] = ()

    def check(self, value: object) -> Value:
        """`value` in its declared type and within its limits, or `ParameterError`."""
        if not self.many:
            return self._check_one(value)
        if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray) or len(value) == 0:
            raise ParameterError(f"{self.name} = {value!r} is not a list of {self.kind.__name__} values, at least one")
        return tuple(self._check_one(item) for item in value)  # type: ignore[return-value]

    def _check_one(self, value: object) -> float | int | bool | str:
        if isinstance(value, np.generic):
            value = value.item()
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, self.kind) or (isinstance(value, bool) and self.kind is not bool):
            raise ParameterError(f"{self.name} = {value!r} is not of type {self.kind.__name__}; {self.help()}")
        if self.choices and value not in self.choices:
            raise ParameterError(f"{self.name} = {value!r} is none of {', '.join(self.choices)}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            self.q.check(self.name, value)
        return value  # type: ignore[return-value]

    def parse(self, text: str) -> Value:
        """The value that a person wrote on a command line or in a form; raises `ParameterError`."""
        if self.kind in (float, int):
            values: Sequence[float] = parse_list(text, self.q.unit) if self.many else [parse(text, self.q.unit)]
            if self.kind is int:
                if fractional := next((value for value in values if value != int(value)), None):
                    raise ParameterError(f"{self.name} = {fractional} is not a whole number")
                values = [int(value) for value in values]
            return self.check(values if self.many else values[0])
        words = text.split(",") if self.many else [text]
        if self.kind is bool:
            known = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
            if text.lower() not in known:
                raise ParameterError(f"{self.name} = {text!r} is neither yes nor no")
            return self.check(known[text.lower()])
        return self.check(words if self.many else words[0])

    def help(self) -> str:
        """Meaning, limits and default in one line."""
        if self.kind is bool:
            limits = "yes or no"
        elif self.kind is str:
            limits = " | ".join(self.choices)
        else:
            limits = self.q.range() + (", a list or start:stop:step" if self.many else "")
        return f"{self.q.meaning}: {limits}" if limits else self.q.meaning

    def show(self, value: Value) -> str:
        """`value` as a person reads it, with prefix and unit."""
        if isinstance(value, tuple):
            shown = [self.show(item) for item in value[:8]]
            return ", ".join(shown) + (f", … ({len(value)} values)" if len(value) > 8 else "")
        if isinstance(value, bool):
            return "yes" if value else "no"
        return si(value, self.q.unit) if isinstance(value, float) else f"{value} {self.q.unit}".strip()


@dataclass(frozen=True)
class Column:
    """One declared column of a table: kind (float, int, bool or str) and quantity."""

    name: str
    kind: type
    q: Q


class Table:
    """The rows of one NamedTuple type."""

    def __init__(self, row: type) -> None:
        self.row = row
        self.name = _snake(row.__name__)
        hints = get_type_hints(row, include_extras=True)
        self.columns = tuple(Column(name, *_value(hints[name], f"{row.__name__}.{name}")) for name in row._fields)  # type: ignore[attr-defined]
        self.doc = "" if (row.__doc__ or "").startswith(f"{row.__name__}(") else inspect.getdoc(row) or ""


class Rows:
    """A block of rows as columns: ``Rows(Point, v=array, i=array)``; scalars repeat. For millions of points."""

    def __init__(self, row: type, /, **columns: object) -> None:
        fields: tuple[str, ...] = row._fields  # type: ignore[attr-defined]
        if set(columns) != set(fields):
            raise ValueError(f"{row.__name__} has the columns {', '.join(fields)}; got {', '.join(columns)}")
        arrays = np.broadcast_arrays(*[np.asarray(columns[name]) for name in fields])
        self.row = row
        self.columns: dict[str, NDArray[Any]] = dict(zip(fields, arrays, strict=True))
        if arrays[0].ndim != 1:
            raise ValueError(f"a block of {row.__name__} needs columns of one dimension, got {arrays[0].shape}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


@dataclass(frozen=True, eq=False)
class Trace:
    """A sampled waveform of the row yielded just before it.

    codes: (n,) integers as the instrument delivered them; value = codes·scale + offset in `unit`;
    time = t0 + k·dt in seconds (0 is the trigger).
    """

    name: str
    codes: NDArray[np.integer[Any]]
    scale: float
    offset: float
    unit: str
    t0: float
    dt: float

    @property
    def values(self) -> NDArray[np.float64]:
        """(n,) in `unit`."""
        return np.asarray(self.codes * self.scale + self.offset, np.float64)

    @property
    def t(self) -> NDArray[np.float64]:
        """(n,) in s."""
        return np.asarray(self.t0 + np.arange(len(self.codes)) * self.dt, np.float64)


class Protocol:
    """A declared protocol. Call it with a bench and parameters to get its generator of rows."""

    def __init__(
        self,
        function: Callable[..., Iterator[Any]],
        *,
        total: Callable[..., int | None] | None = None,
        plot: Callable[..., None] | None = None,
        continues: bool = False,
    ) -> None:
        self.function = function
        self.name = function.__name__
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.total = total
        self.plot = plot
        self.continues = continues

    def __call__(self, bench: Any, **parameters: object) -> Generator[Any, None, None]:
        rows: Generator[Any, None, None] = self.function(bench, **self.check(parameters))  # type: ignore[assignment]
        return rows

    @property
    def doc(self) -> str:
        """The whole docstring."""
        return inspect.getdoc(self.function) or ""

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.function, include_extras=True)

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The declared parameters, in order, without the bench."""
        found = {}
        for name, parameter in list(inspect.signature(self.function).parameters.items())[1:]:
            where = f"{self.name}: {name}"
            if parameter.default is parameter.empty:
                raise TypeError(f"{where} has no default; a protocol runs as it stands")
            hint, many, choices = self._hints[name], False, ()
            base, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            if get_origin(base) in (Sequence, tuple):
                many, base = True, get_args(base)[0]
            if get_origin(base) is Literal:
                choices, base = get_args(base), str
            kind, q = _value(Annotated[base, *extras], where)
            declared = Parameter(name, kind, many, q, (), choices)
            found[name] = Parameter(name, kind, many, q, declared.check(parameter.default), choices)
        return found

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """The tables it yields, the main one first."""
        item = get_args(self._hints["return"])[0]
        rows = get_args(item) if get_origin(item) in (Union, UnionType) else (item,)
        kinds = [get_args(row)[0] if get_origin(row) is Rows else row for row in rows]
        return tuple(Table(kind) for kind in dict.fromkeys(kinds) if kind not in (Rows, Trace))

    def check(self, parameters: Mapping[str, object]) -> dict[str, Value]:
        """All parameters, defaults filled in, or `ParameterError` for the first that cannot be."""
        for name in parameters:
            if name not in self.parameters:
                import difflib

                near = difflib.get_close_matches(name, self.parameters, 1)
                hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(self.parameters)}"
                raise ParameterError(f"{self.name} has no parameter {name!r}{hint}")
        try:
            return {
                name: declared.check(parameters[name]) if name in parameters else declared.default
                for name, declared in self.parameters.items()
            }
        except ParameterError as error:
            raise ParameterError(f"{self.name}: {error}") from None

    def expected_rows(self, parameters: Mapping[str, Value]) -> int | None:
        """How many main rows the run will have, where the protocol can tell."""
        return self.total(**parameters) if self.total else None


Function = Callable[..., Iterator[Any]]


@overload
def protocol(function: Function, /) -> Protocol: ...


@overload
def protocol(
    *, total: Callable[..., int | None] | None = None, plot: Callable[..., None] | None = None, continues: bool = False
) -> Callable[[Function], Protocol]: ...


def protocol(
    function: Function | None = None,
    /,
    *,
    total: Callable[..., int | None] | None = None,
    plot: Callable[..., None] | None = None,
    continues: bool = False,
) -> Protocol | Callable[[Function], Protocol]:
    """Declare a generator function as a protocol.

    total: takes the parameters by name and gives the number of main rows (for the progress bar).
    plot: takes a loaded run and a matplotlib figure and draws what users of this protocol look at first.
    continues: a resumed run goes on within the unfinished cell (`CellPort.go_on`) and keeps the rows it had.
    """
    if function is None:
        return lambda f: Protocol(f, total=total, plot=plot, continues=continues)
    return Protocol(function, total=total, plot=plot, continues=continues)


def discover() -> dict[str, Protocol]:
    """Every protocol of every package registered under the entry point ``labctl.protocols``, by name."""
    found: dict[str, Protocol] = {}
    for entry in importlib.metadata.entry_points(group="labctl.protocols"):
        package = entry.load()
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            for item in vars(importlib.import_module(module.name)).values():
                if isinstance(item, Protocol) and item.__module__ == module.name:
                    found[item.name] = item
    return dict(sorted(found.items()))


def find(name: str) -> Protocol:
    """The protocol of that name, or ``FILE.py:NAME`` for one in a file of your own; raises `UsageError`."""
    path, colon, inner = name.rpartition(":")
    if colon and path.endswith(".py"):
        import runpy

        try:
            item = runpy.run_path(path).get(inner)
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error})") from error
        if not isinstance(item, Protocol):
            raise UsageError(f"{path} declares no protocol {inner!r}; mark it with @protocol")
        return item
    known = discover()
    if name not in known:
        raise UsageError(f"there is no protocol {name!r}; there are {', '.join(known)}")
    return known[name]


def _value(hint: Any, where: str) -> tuple[type, Q]:
    base, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    q = next((extra for extra in extras if isinstance(extra, Q)), None)
    if q is None or base not in (float, int, bool, str):
        raise TypeError(f"{where} must be Annotated[float | int | bool | str, Q(unit, low, high, meaning)], not {hint}")
    return base, q


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(name))

"""What a network costs on a station: cells, crossbars, neurons, energy of each operation, time per inference.

A layer of n_in × n_out weights, k cells a weight, is cut into tiles of one crossbar (rows × columns). Each neuron that
spikes opens its row for the width of its OUT pulse; every cell of the row then carries g·v_read into its column's LDO,
attenuator and neuron. Spikes count as independent (Poisson) where it matters: a column reads while any of its rows is
open, 1 − exp(−rows·rate·t_spike) of the time. Powers of the periphery: SPICE figures of Garg et al., "Versatile CMOS
Analog LIF Neuron for Memristor-Integrated Neuromorphic Circuits"; none is measured on a chip.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints
from typing import Annotated as A

import numpy as np

from labctl.errors import UsageError
from labctl.models.device import Cells, DeviceModel
from labctl.quantity import Q, si

if TYPE_CHECKING:
    from labctl.station import Station


def _check(numbers: Any) -> None:
    """Every annotated number of a dataclass against its limits."""
    for name, hint in get_type_hints(type(numbers), include_extras=True).items():
        for note in getattr(hint, "__metadata__", ()):
            value = getattr(numbers, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UsageError(f"{name} = {value!r} is not a number; give {note.range()}")
            note.check(name, value)
            if hint.__origin__ is int and not isinstance(value, int):
                raise UsageError(f"{name} = {value!r} must be a whole number")


@dataclass(frozen=True)
class Pulse:
    """A pulse on one cell, driver to driver: voltage, mean current while it lasts, width."""

    volts: A[float, Q("V", -10.0, 10.0, "across cell and transistor")]
    amps: A[float, Q("A", -1.0, 1.0, "mean current")]
    seconds: A[float, Q("s", 0.0, 1e6, "width")]

    def __post_init__(self) -> None:
        _check(self)

    @property
    def energy(self) -> float:
        """J, taken from the drivers."""
        return abs(self.volts * self.amps) * self.seconds

    @classmethod
    def of(
        cls, device: DeviceModel, v_bl: float, v_sl: float, v_wl: float, width: float, cells: Cells = None
    ) -> "Pulse":
        """The pulse as `device` takes it from its present state: the current's mean over time and `cells`.

        The current is followed at 49 instants, evenly over the logarithm of time from width/1e5; the device's state
        is put back. Raises `UsageError` on bad input.
        """
        if not (math.isfinite(width) and width > 0):
            raise UsageError(f"width = {width} s must be finite and positive")
        before = device.state()
        try:
            t = np.concatenate([[0.0], np.geomspace(width / 1e5, width, 48)])
            mean = [device.read(v_bl, v_sl, v_wl, 0.0, cells).mean()]
            mean += [device.pulse(v_bl, v_sl, v_wl, float(dt), cells).mean() for dt in np.diff(t)]
        finally:
            device.restore(before)
        return cls(v_bl - v_sl, float(np.trapezoid(mean, t) / width), width)


@dataclass(frozen=True)
class Hardware:
    """One station: its crossbars, how cells are read and written, what the periphery takes.

    Defaults: the UNICO chip at its typical biases; cells of 20 µS and the write pulses are assumed (`Pulse.of` takes
    them from a device model), 20 pulses a cell are what write-verify takes on published arrays (ISPP, 2 bit a cell).
    """

    rows: A[int, Q("", 1, 1e6, "word lines of a crossbar, each with its input neuron")] = 16
    columns: A[int, Q("", 1, 1e6, "bit lines of a crossbar, each with LDO, attenuator and neuron")] = 4
    chips: A[int, Q("", 1, 1e9, "crossbars that the station has")] = 1
    v_dd: A[float, Q("V", 0.0, 10.0, "amplitude of a spike on a word line")] = 3.3
    v_read: A[float, Q("V", 0.0, 10.0, "over a cell while its row is open")] = 0.2
    g_mean: A[float, Q("S", 0.0, 1.0, "mean conductance of the cells in use")] = 20e-6
    t_spike: A[float, Q("s", 0.0, 10.0, "width of OUT: a row is open so long")] = 10e-6
    c_wl: A[float, Q("F", 0.0, 1e-9, "word line capacitance a cell (assumed)")] = 2e-15
    set_pulse: Pulse = Pulse(2.0, 100e-6, 1e-6)
    reset_pulse: Pulse = Pulse(-1.5, 100e-6, 1e-6)
    t_verify: A[float, Q("s", 0.0, 10.0, "one read of write-verify")] = 10e-6
    pulses: A[float, Q("", 0.0, 1e6, "mean pulses to bring a cell into its band, half SET, half RESET")] = 20.0
    i_limit: A[float, Q("A", 0.0, 1.0, "what an LDO can take from its column")] = 200e-6
    ldo_static: A[float, Q("W", 0.0, 1.0, "an LDO without input")] = 10e-6
    ldo_reading: A[float, Q("W", 0.0, 1.0, "an LDO while its column reads")] = 18e-6
    attenuator_static: A[float, Q("W", 0.0, 1.0, "an attenuator without input")] = 10e-12
    attenuator_reading: A[float, Q("W", 0.0, 1.0, "an attenuator while its column reads")] = 20e-6
    neuron_static: A[float, Q("W", 0.0, 1.0, "a neuron at rest")] = 5e-6
    spike: A[float, Q("J", 0.0, 1.0, "one spike of a neuron")] = 200e-12

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def of(cls, station: "Station", **changes: Any) -> "Hardware":
        """What the station file says (rows, columns, V_dd, the LDO's limit), with `changes` by name."""
        own: dict[str, Any] = {"rows": station.chip.rows, "columns": station.chip.columns}
        for name, value in (("v_dd", station.biases.get("v_dd")), ("i_limit", station.limits.get("i_syn"))):
            if value is not None:
                own[name] = value
        unknown = set(changes) - {field.name for field in fields(cls)}
        if unknown:
            raise UsageError(f"{', '.join(sorted(unknown))}: no such number of a station's hardware")
        return cls(**own | changes)

    def low_bias(self) -> "Hardware":
        """The same with the neurons' comparators at low bias: 17 nW at rest, 7 nJ a spike."""
        return replace(self, neuron_static=17e-9, spike=7e-9)

    @property
    def read_energy(self) -> float:
        """J in one cell while its row is open once."""
        return self.v_read**2 * self.g_mean * self.t_spike


@dataclass(frozen=True)
class Network:
    """Layer sizes, input first, and how it runs.

    window: seconds an inference looks at its input. rates: mean spike rate (Hz) of each layer's neurons, or one for
    all. cells_per_weight: 2 for signed weights as differences.
    """

    sizes: tuple[int, ...]
    window: A[float, Q("s", 1e-9, 1e6, "time of one inference on the array")] = 0.35
    rates: float | tuple[float, ...] = 20.0
    cells_per_weight: A[int, Q("", 1, 64, "cells that make one weight")] = 2

    def __post_init__(self) -> None:
        _check(self)
        if len(self.sizes) < 2 or not all(isinstance(n, int) and n >= 1 for n in self.sizes):
            raise UsageError(f"sizes = {self.sizes}; give two or more positive whole numbers, such as (784, 100, 10)")
        rates = self.rates if isinstance(self.rates, tuple) else (self.rates,) * len(self.sizes)
        if len(rates) != len(self.sizes) or not all(math.isfinite(r) and r >= 0 for r in rates):
            raise UsageError(f"rates = {self.rates} Hz; give one rate, or {len(self.sizes)}, of at least 0 Hz")
        object.__setattr__(self, "rates", rates)


class Line(NamedTuple):
    """One line of the table: a value in SI units and how it comes about."""

    name: str
    value: float
    unit: str
    how: str


def capacity(hardware: Hardware, network: Network) -> tuple[Line, ...]:
    """What `network` takes on `hardware`: counts, energies (J), powers (W) and times (s); `table` prints it."""
    h, n = hardware, network
    rates: Sequence[float] = n.rates if isinstance(n.rates, tuple) else ()
    tiles = cells = columns = 0
    events = cell_energy = line_energy = column_energy = 0.0
    neuron_energy = sum(
        size * n.window * (h.neuron_static + rate * h.spike) for size, rate in zip(n.sizes, rates, strict=True)
    )
    for n_in, n_out, rate in zip(n.sizes, n.sizes[1:], rates, strict=False):
        wide = n_out * n.cells_per_weight
        down, across = math.ceil(n_in / h.rows), math.ceil(wide / h.columns)
        tiles += down * across
        cells += n_in * wide
        columns += down * wide
        spikes = n_in * rate * n.window
        events += spikes * n_out
        cell_energy += spikes * wide * h.read_energy
        line_energy += spikes * across * h.columns * h.c_wl * h.v_dd**2
        for k in range(2 if n_in % h.rows else 1):  # full tiles, and the last one with the rows that are left
            rows, number = (h.rows, n_in // h.rows) if k == 0 else (n_in % h.rows, 1)
            busy = -math.expm1(-rows * rate * h.t_spike)
            power = h.ldo_static + h.attenuator_static
            power += busy * (h.ldo_reading - h.ldo_static + h.attenuator_reading - h.attenuator_static)
            column_energy += number * wide * power * n.window
    total = cell_energy + line_energy + column_energy + neuron_energy
    passes = math.ceil(tiles / h.chips)
    rows_open = h.i_limit / (h.g_mean * h.v_read) if h.g_mean * h.v_read else math.inf
    write = (h.set_pulse.energy + h.reset_pulse.energy) / 2 + h.v_read**2 * h.g_mean * h.t_verify
    write_time = (h.set_pulse.seconds + h.reset_pulse.seconds) / 2 + h.t_verify
    deepest = min(max(n.sizes[:-1]), h.rows)
    return (
        Line("weights", cells / n.cells_per_weight, "", "n_in × n_out, all layers"),
        Line("cells", cells, "", f"{n.cells_per_weight} a weight"),
        Line("crossbars", tiles, "", f"tiles of {h.rows} × {h.columns}"),
        Line("cells in use", cells / (tiles * h.rows * h.columns), "", "part of the crossbars' cells"),
        Line("neurons", sum(n.sizes), "", "all layers, the input's too"),
        Line("columns with LDO and attenuator", columns, "", "in use"),
        Line("read, a cell", h.read_energy, "J", "v_read² · g · t_spike"),
        Line("SET pulse, a cell", h.set_pulse.energy, "J", "volts · mean current · width"),
        Line("RESET pulse, a cell", h.reset_pulse.energy, "J", "volts · mean current · width"),
        Line("spike, a neuron", h.spike, "J", "without its power at rest"),
        Line("column current, all rows open", deepest * h.g_mean * h.v_read, "A", _margin(deepest, rows_open, h)),
        Line("passes", passes, "", f"{tiles} crossbars on {h.chips}"),
        Line("time per inference", passes * n.window, "s", "passes · window"),
        Line("inference: cells", cell_energy, "J", "reads of every open row"),
        Line("inference: word lines", line_energy, "J", "C · V_dd² a spike and crossbar"),
        Line("inference: LDOs, attenuators", column_energy, "J", "at rest and reading"),
        Line("inference: neurons", neuron_energy, "J", "at rest and spikes"),
        Line("energy per inference", total, "J", "the four above"),
        Line("mean power", total / (passes * n.window), "W", "energy / time"),
        Line("energy per synaptic event", total / events if events else math.nan, "J", "a spike through one weight"),
        Line("programming: time", cells * h.pulses * write_time, "s", f"{h.pulses:g} pulses and reads a cell, in turn"),
        Line("programming: energy", cells * h.pulses * write, "J", "pulses and reads"),
    )


def table(lines: Sequence[Line]) -> str:
    """`lines` as text, one a line: name, value with its prefix, how it comes about."""

    def number(line: Line) -> str:
        if line.unit:
            return si(line.value, line.unit, 4)
        return f"{line.value:,.0f}" if float(line.value).is_integer() else f"{line.value:.4g}"

    shown = [(line.name, number(line), line.how) for line in lines]
    width = [max(len(row[k]) for row in shown) for k in range(2)]
    return "\n".join(f"{a:<{width[0]}}  {b:>{width[1]}}  {c}".rstrip() for a, b, c in shown)


def _margin(deepest: int, rows_open: float, h: Hardware) -> str:
    limit = si(h.i_limit, "A")
    if rows_open >= deepest:
        return f"within the {limit} of an LDO"
    return f"ABOVE the {limit} of an LDO: at most {math.floor(rows_open)} of {deepest} rows at once"

"""What a station is to a network: its crossbar, cells and pulses, in the terms of `labctl.models.capacity`."""

from typing import Any

import numpy as np

from drivers.simulated_chip import Settings, SimulatedArray
from labctl.errors import LabctlError, UsageError
from labctl.models.capacity import Hardware, Pulse
from labctl.models.neuron_params import pulse_width
from labctl.quantity import si
from labctl.reader import Run
from labctl.station import Station

SET, RESET = (2.8, 0.0, 2.4, 1e-6), (0.0, 2.0, 4.2, 1e-6)
"""V on BL, SL and WL, width in s: the defaults of the protocols."""
READ = (0.2, 0.0, 2.5)
LOW_BIAS = 1.2
"""V of v_bcomp below which a neuron's comparator is in its low-bias mode."""


def hardware_of(
    station: Station, *, measured: Run | None = None, seed: int = 0, **changes: Any
) -> tuple[Hardware, list[str]]:
    """The station's hardware, `changes` by name, and where each number that is not in its file comes from.

    measured: a run with conductances (column g) or resistances (r) of cells; their mean is g_mean. Without, a simulated
    station's array tells it, and what its write pulses take. Raises `UsageError`.
    """
    own: dict[str, Any] = {}
    notes = []
    if "v_pw" in station.biases:
        own["t_spike"] = float(pulse_width(station.biases["v_pw"]))
        notes.append(f"OUT lasts {si(own['t_spike'], 's', 3)}: v_pw = {station.biases['v_pw']:g} V")
    if station.board == "sim":
        device = SimulatedArray(station, Settings.of(station), seed).array.device
        own["g_mean"] = float(np.mean(device.read(*READ, 0.0)) / READ[0])
        if measured is None:
            notes.append(f"cells conduct {si(own['g_mean'], 'S', 3)} in the mean: the simulated array as it is now")
        try:
            own["reset_pulse"] = Pulse.of(device, *RESET)
            before = device.state()
            device.pulse(*RESET)
            own["set_pulse"] = Pulse.of(device, *SET)
            device.restore(before)
            notes.append("write pulses: what the simulated cells take, RESET as they are now, SET after it")
        except LabctlError as error:
            notes.append(f"write pulses are assumed; the model of the cells does not tell: {error}")
    else:
        notes.append("write pulses are assumed")
    if measured is not None:
        own["g_mean"] = _mean(measured)
        notes.append(f"cells conduct {si(own['g_mean'], 'S', 3)} in the mean: measured, {measured.path.name}")
    elif station.board != "sim":
        notes.append("cells of 20 µS are assumed; give a run of read_map")
    hardware = Hardware.of(station, **own | changes)
    if station.biases.get("v_bcomp", LOW_BIAS) < LOW_BIAS:
        notes.append(f"comparators at low bias: v_bcomp = {station.biases['v_bcomp']:g} V")
        hardware = hardware.low_bias()
    return hardware, notes


def _mean(run: Run) -> float:
    for name in run.tables:
        table = run.table(name)
        if {"g", "r"} & set(table):
            g = np.asarray(table["g"] if "g" in table else 1.0 / table["r"], np.float64)
            if np.isfinite(g).any():
                return float(g[np.isfinite(g)].mean())
    raise UsageError(f"{run.path.name} tells no conductances (column g or r); give a run of read_map")

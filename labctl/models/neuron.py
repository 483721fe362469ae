"""Leaky integrate-and-fire neurons of the ASIC, solved from event to event without a time step.

Source: N. Garg et al., "Versatile CMOS Analog LIF Neuron for Memristor-Integrated Neuromorphic Circuits". The chain is

    I     = clip((V_in − V_ref)/R_syn, 0, 200 µA)                    LDO (`ldo_current`)
    A     = I/(K·C1) · [1 + (I/I_x)^m]^(p/m)                         attenuator (`slew`), after the dead time t_d
    dV/dt = A/(1 + e^((V − V_gain)/w)) − leak(V)                     membrane (`labctl.models.neuron_flow`)
    spike : t_lat after V reaches V_thr + V_os, OUT is V_dd and V held at 0 for T_pw   (`pulse_width`)

Each onset of the current from 0 is a read pulse: nothing is integrated for t_d, and for the 100 µs after the onset A is
multiplied by 1 + ε, ε normal with sd `jitter` (charge jitter; a steady current has none after that). The reset leaves
the thermal noise √(kT/C), C = K·C1/500 (11 µV). Temperature acts through U_T on leaks, pulse width, steering width and
noise. A pulse width that changes while a pulse lasts scales what is left of it.

Range of validity: the paper's bias ranges (V_taun 1.0 … 1.35, V_taup 1.1 … 1.6, V_pw 0.45 … 1.1, V_thr 0.6 … 2.1 V),
I ≤ 200 µA, 200 … 450 K. Not in it: flicker and thermal noise of the leak, V_opa, comparator speed at low bias, slopes
of the output's edges, the membrane's upper rail (V_gain keeps it below V_dd).
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import LimitError, UsageError
from labctl.models import neuron_kernel as kernel
from labctl.models.neuron_flow import C_PW, C_REST, CONDITIONS, workspace
from labctl.models.neuron_kernel import (
    HOLD,
    S_A,
    S_DEAD,
    S_I,
    S_LEFT,
    S_PHASE,
    S_READING,
    S_SETTLE,
    S_SPIKES,
    S_V,
    STATES,
)
from labctl.models.neuron_params import (
    BOLTZMANN,
    I_MAX,
    K_NOMINAL,
    V_BCOMP_LOW,
    V_DD_MIN,
    Biases,
    FloatArray,
    LifParams,
    broadcast,
    energy,
    ldo_current,
    leaks,
    pulse_width,
    slew,
    thermal_voltage,
)
from labctl.models.neuron_wave import Track

__all__ = ["Biases", "LifParams", "Neurons", "Spikes", "ldo_current", "leaks", "pulse_width", "pulses", "slew"]


class Spikes(NamedTuple):
    """Rising edges of OUT in order of time: seconds since the start of the call, and neuron."""

    t: FloatArray
    neuron: NDArray[np.int32]


class _Lists(NamedTuple):
    """Ascending spike times of several neurons: list j is spikes[offsets[j]:][:counts[j]], of neuron labels[j]."""

    spikes: FloatArray
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    labels: NDArray[np.int64]


class Neurons:
    """n neurons as a structure of arrays; at creation at rest, without input.

    Between calls the state is exact: how a stretch of time is cut into calls changes no spike by more than rounding.
    Random numbers depend on the seed, the neuron and the count of its onsets or spikes only; `noise` = False leaves
    out the charge jitter and the noise of the reset.

    Raises `UsageError` for shapes and names, `ParameterError` or `LimitError` for values; then nothing has changed.
    """

    def __init__(
        self,
        n: int,
        params: LifParams | None = None,
        biases: Biases | None = None,
        *,
        seed: int = 0,
        temperature: float = 300.0,
        noise: bool = True,
    ) -> None:
        if n < 1:
            raise UsageError(f"n = {n} neurons; give at least 1")
        if not 200.0 <= temperature <= 450.0:
            raise UsageError(f"temperature = {temperature} K is outside 200 K … 450 K, where the model may be used")
        if not 0 <= seed < 2**63:
            raise UsageError(f"seed = {seed}; give an integer from 0 to 2**63 - 1")
        self.n, self.temperature, self.time = n, temperature, 0.0
        self.params = params or LifParams()
        self._noise = noise
        self._seed = np.uint64(seed)
        self._silent = np.zeros(n, np.bool_)
        self._on = np.zeros(n, np.bool_)
        self._state = np.zeros((n, STATES))
        self._conditions = np.zeros((n, CONDITIONS))
        self._ledger = {name: np.zeros(n) for name in ("powered", "low", "spikes_low")}
        self._tracks: dict[int, Track] = {}
        self._volts = broadcast(Biases(), n)
        self.biases = biases or Biases()
        self._state[:, S_V] = self._conditions[:, C_REST]

    # biases and state --------------------------------------------------------------------------------------------

    @property
    def biases(self) -> Biases:
        """Bias voltages in force; new ones act from now on. Below a supply of 1 V a neuron is off and forgets."""
        return self._biases

    @biases.setter
    def biases(self, biases: Biases) -> None:
        volts = broadcast(biases, self.n)
        p = broadcast(self.params, self.n)
        on = volts["v_dd"] >= V_DD_MIN
        l_n, l_p = leaks(volts["v_taun"], volts["v_taup"], self.params, self.temperature)
        threshold = np.where(on & ~self._silent, volts["v_thr"] + p["v_os"], np.inf)
        t_pw = np.broadcast_to(pulse_width(volts["v_pw"], self.params, self.temperature), (self.n,))
        capacitance = p["kc"] / K_NOMINAL
        noise = np.sqrt(BOLTZMANN * self.temperature / capacitance) if self._noise else np.zeros(self.n)
        new = np.empty_like(self._conditions)
        for column, values in enumerate((
            np.where(on, volts["v_rest"], 0.0), l_n, l_p, threshold, p["t_lat"], t_pw, p["t_d"], p["kc"], p["i_x"],
            p["p"], p["m"], volts["v_gain"], p["w_gain"] * (self.temperature / 300.0),
            thermal_voltage(self.temperature), p["jitter"] * self._noise, noise,
        )):  # fmt: skip
            new[:, column] = values
        state = self._state
        held = state[:, S_PHASE] == HOLD
        state[held, S_LEFT] *= t_pw[held] / self._conditions[held, C_PW]
        switched = on != self._on
        for column in (S_V, S_PHASE, S_LEFT, S_I, S_A, S_DEAD, S_SETTLE):
            state[switched, column] = 0.0
        changed = switched | (new != self._conditions).any(axis=1) | (volts["v_dd"] != self._volts["v_dd"])
        for k, track in self._tracks.items():
            track.fresh |= bool(changed[k])
        self._biases, self._volts, self._conditions, self._on = biases, volts, new, on

    def silence(self, neurons: Sequence[int]) -> None:
        """Break the comparators of these neurons: they integrate and never fire."""
        for neuron in neurons:
            self._index(neuron)
        self._silent[list(neurons)] = True
        self.biases = self._biases

    @property
    def v(self) -> FloatArray:
        """Membranes now, (n,), V; a copy."""
        return self._state[:, S_V].copy()

    @property
    def out(self) -> NDArray[np.bool_]:
        """Whether each output is high now, (n,)."""
        return np.asarray(self._state[:, S_PHASE] == HOLD)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Spikes of each neuron since its creation, (n,)."""
        return self._state[:, S_SPIKES].astype(np.int64)

    def energy(self) -> dict[str, FloatArray]:
        """Joules since creation, (n,) each: ldo, attenuator, neuron (static), spikes. Constants: `neuron_params`."""
        low = self._ledger["spikes_low"]
        return energy(self._ledger | {"reading": self._state[:, S_READING], "spikes": self._state[:, S_SPIKES] - low})

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything that `restore` needs (copies); parameters, seed and watches are not in it."""
        state: dict[str, NDArray[np.generic]] = {f"ledger.{k}": v.copy() for k, v in self._ledger.items()}
        state |= {f"bias.{k}": v.copy() for k, v in self._volts.items()}
        return state | {"state": self._state.copy(), "time": np.array(self.time)}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Take back what `state` gave, for neurons made alike; watched neurons are watched anew from there."""
        wanted = self.state()
        if set(state) != set(wanted) or any(np.shape(state[k]) != v.shape for k, v in wanted.items()):
            raise UsageError(f"this is no state of {self.n} neurons; give what Neurons.state() returned")
        numbers = {k: np.array(v, np.float64) for k, v in state.items()}
        biases = Biases(**{f.name: numbers[f"bias.{f.name}"] for f in fields(Biases)})
        self.biases = biases
        self._state, self.time = numbers["state"], float(numbers["time"])
        self._ledger = {k: numbers[f"ledger.{k}"] for k in self._ledger}
        self._tracks = {k: Track(self.time) for k in self._tracks}

    # time --------------------------------------------------------------------------------------------------------

    def advance(self, duration: float, i_syn: ArrayLike = 0.0) -> Spikes:
        """Let `duration` s pass with a constant current (A) into each neuron, a number or (n,), 0 … 200 µA."""
        current = np.asarray(i_syn, np.float64)
        if current.shape not in ((), (self.n,)):
            raise UsageError(f"i_syn has shape {current.shape}; give a number or ({self.n},), one value a neuron")
        self._check(duration, current)
        currents = np.broadcast_to(current, (self.n,)).copy()
        first, shift = np.zeros(self.n, np.int64), np.arange(self.n)
        return self._advance(duration, np.zeros(1), currents, first, first + 1, shift)

    def advance_steps(
        self,
        duration: float,
        times: FloatArray | Sequence[FloatArray] | Sequence[float],
        currents: FloatArray | Sequence[FloatArray] | Sequence[float],
    ) -> Spikes:
        """Let `duration` s pass with piecewise constant currents; until its first step a neuron keeps its current.

        times: s from the start of the call, ascending, 0 … duration: (k,) for all neurons alike, or a sequence of n
        arrays. currents: A, in force from the time beside it: (k,) or (k, n), or a sequence of n arrays.
        """
        if len(times) and np.ndim(times[0]):
            if len(times) != self.n or len(currents) != self.n:
                raise UsageError(f"steps for {len(times)} and {len(currents)} neurons; there are {self.n}")
            lists = [np.asarray(t, np.float64) for t in times]
            values = [np.asarray(i, np.float64) for i in currents]
            for k, (t, i) in enumerate(zip(lists, values, strict=True)):
                if t.ndim != 1 or t.shape != i.shape:
                    raise UsageError(f"neuron {k} has times of shape {t.shape} and currents of shape {i.shape}")
                if (t[1:] < t[:-1]).any():
                    raise UsageError(f"the times of neuron {k} do not ascend")
            bounds = np.concatenate(([0], np.cumsum([len(t) for t in lists])))
            first, last, shift = bounds[:-1], bounds[1:], np.zeros(self.n, np.int64)
            t, i = np.concatenate(lists), np.concatenate(values)
        else:
            t, i = np.asarray(times, np.float64), np.asarray(currents, np.float64)
            if t.ndim != 1 or i.shape not in (t.shape, (len(t), self.n)):
                raise UsageError(
                    f"times of shape {t.shape}, currents of shape {i.shape}; give (k,) and (k,) or (k, {self.n})"
                )
            if (t[1:] < t[:-1]).any():
                raise UsageError("the times of the steps do not ascend")
            first, last = np.zeros(self.n, np.int64), np.full(self.n, len(t))
            shift = np.zeros(self.n, np.int64) if i.ndim == 1 else np.arange(self.n) * len(t)
            i = i.T.ravel()
        if t.size and not (t.min() >= 0.0 and t.max() <= duration):
            raise UsageError(f"steps at {t.min()} … {t.max()} s are outside the call, 0 … {duration} s")
        self._check(duration, i)
        return self._advance(duration, t, i, first, last, shift)

    def _check(self, duration: float, currents: FloatArray) -> None:
        if not (np.isfinite(duration) and duration >= 0.0):
            raise UsageError(f"duration = {duration} s must be finite and not negative")
        if not np.isfinite(currents).all():
            raise UsageError("a current is not finite; give A, 0 … 200 µA")
        if currents.size and not (currents.min() >= 0.0 and currents.max() <= I_MAX):
            raise LimitError(
                f"i_syn = {currents.min()} … {currents.max()} A is outside 0 A … {I_MAX} A, what the LDO can give;"
                " `ldo_current` tells what flows for a voltage"
            )

    def _advance(
        self,
        duration: float,
        times: FloatArray,
        currents: FloatArray,
        first: NDArray[np.int64],
        last: NDArray[np.int64],
        shift: NDArray[np.int64],
    ) -> Spikes:
        """Neuron k takes currents[first+shift : last+shift] at times[first:last]."""
        last = np.where(self._on, last, first)  # no supply, no current
        before = self._state[:, S_SPIKES].copy()
        rate = currents if len(times) == 1 and times[0] == 0.0 else None
        lists = self._run_free(duration, times, currents, first, last, shift, rate)
        for k in self._tracks:
            lists += self._run_watched(k, duration, times, currents, int(first[k]), int(last[k]), int(shift[k]))
        self._ledger["powered"] += duration * self._on
        low = self._on & (self._volts["v_bcomp"] < V_BCOMP_LOW)
        self._ledger["low"] += duration * low
        self._ledger["spikes_low"] += (self._state[:, S_SPIKES] - before) * low
        self.time += duration
        return _merge(lists, duration)

    def _run_free(
        self,
        duration: float,
        times: FloatArray,
        currents: FloatArray,
        first: NDArray[np.int64],
        last: NDArray[np.int64],
        shift: NDArray[np.int64],
        steady: FloatArray | None,
    ) -> list[_Lists]:
        """Advance the unwatched neurons; where the room for spikes was too small, go on from there with more."""
        which = np.setdiff1d(np.arange(self.n), list(self._tracks)) if self._tracks else np.arange(self.n)
        s, c = self._state, self._conditions
        room = np.full(self.n, 64) if steady is None else kernel.expected(s, c, duration, steady)
        room = room[which]
        reached = np.zeros(self.n)
        done: list[_Lists] = []
        while which.size:
            offsets = np.concatenate(([0], np.cumsum(room)))
            spikes, counts = np.empty(offsets[-1]), np.zeros(which.size, np.int64)
            kernel.run_all(
                s, c, self._seed, which, reached, duration, times, currents, first, last, shift, spikes, offsets, counts
            )
            done.append(_Lists(spikes, offsets, counts, which))
            short = reached[which] < duration
            which, room = which[short], 4 * room[short]
        return done

    def _run_watched(
        self, k: int, duration: float, times: FloatArray, currents: FloatArray, first: int, last: int, shift: int
    ) -> list[_Lists]:
        track, done = self._tracks[k], []
        t, room, fresh = 0.0, 64, track.fresh
        while True:
            spikes, record = np.empty(room), np.empty((4 * room, 4))
            t, n, marks = kernel.run(
                self._state[k], self._conditions[k], self._seed, k, t, duration, times[first:last],
                currents[first + shift : last + shift], spikes, record, fresh, workspace(),
            )  # fmt: skip
            record[:marks, 0] += self.time
            if marks:
                track.add(record[:marks], self._conditions[k], float(self._volts["v_dd"][k]))
            done.append(_Lists(spikes, np.array([0, n]), np.array([n]), np.array([k])))
            if t >= duration:
                # what had no time to act yet is told at the start of the next call
                track.fresh = fresh and not marks
                return done
            fresh, room = False, min(4 * room, 1 << 16)

    # looking -----------------------------------------------------------------------------------------------------

    def watch(self, neuron: int) -> None:
        """Keep the past of a neuron from now on, until `unwatch`; unwatched neurons store nothing."""
        self._tracks.setdefault(self._index(neuron), Track(self.time))

    def unwatch(self, neuron: int) -> None:
        """Drop the past of a neuron and keep no more of it."""
        self._tracks.pop(self._index(neuron), None)

    def v_mem(self, neuron: int, t: ArrayLike) -> FloatArray:
        """Membrane (V) at absolute times (s since creation) in any shape, within the watched span: exact, no samples.

        Raises `UsageError` for a neuron that is not watched or a time outside the span.
        """
        return self._track(neuron).at(t, self.time)[0]

    def out_wave(self, neuron: int, t: ArrayLike) -> FloatArray:
        """Output (V: 0 or V_dd) at absolute times, as `v_mem`."""
        return self._track(neuron).at(t, self.time)[1]

    def forget(self, before: float) -> None:
        """Drop what watched neurons did before the absolute time `before` (s)."""
        for track in self._tracks.values():
            track.forget(before)

    def _track(self, neuron: int) -> Track:
        if self._index(neuron) not in self._tracks:
            raise UsageError(f"neuron {neuron} is not watched; call watch({neuron}) before the time of interest")
        return self._tracks[neuron]

    def _index(self, neuron: int) -> int:
        if not 0 <= neuron < self.n:
            raise UsageError(f"there is no neuron {neuron}; there are 0 … {self.n - 1}")
        return int(neuron)


def _merge(lists: list[_Lists], duration: float) -> Spikes:
    lists = [part for part in lists if part.counts.any()]
    if not lists:
        return Spikes(np.empty(0), np.empty(0, np.int32))
    if len(lists) == 1:
        joined = lists[0]
    else:
        ends = np.cumsum([0] + [part.spikes.size for part in lists])
        joined = _Lists(
            np.concatenate([part.spikes for part in lists]),
            np.concatenate([part.offsets[:-1] + start for part, start in zip(lists, ends[:-1], strict=True)]),
            np.concatenate([part.counts for part in lists]),
            np.concatenate([part.labels for part in lists]),
        )
    return Spikes(*kernel.merge(joined.spikes, joined.offsets, joined.counts, joined.labels, duration))


def pulses(start: float, period: float, width: float, i_syn: float, count: int) -> tuple[FloatArray, FloatArray]:
    """(times, currents) of `count` rectangular pulses for `Neurons.advance_steps`; s and A.

    Raises `UsageError` unless 0 < width < period.
    """
    if not (0.0 < width < period and start >= 0.0 and count >= 1):
        raise UsageError(f"{count} pulses of {width} s every {period} s from {start} s; give 0 < width < period")
    rise = start + period * np.arange(count)
    return np.column_stack((rise, rise + width)).ravel(), np.tile([i_syn, 0.0], count)

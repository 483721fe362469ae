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

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import UsageError
from labctl.models import neuron_kernel as kernel
from labctl.models.neuron_flow import C_PW, C_REST, C_THR, CONDITIONS, conditions, workspace
from labctl.models.neuron_group import run_group
from labctl.models.neuron_kernel import HOLD, S_DEAD, S_I, S_LEFT, S_PHASE, S_READING, S_SETTLE, S_SPIKES, S_V, STATES
from labctl.models.neuron_merge import Lists, Spikes, in_order, in_threads
from labctl.models.neuron_params import (
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
)
from labctl.models.neuron_steps import Lists as StepLists
from labctl.models.neuron_steps import Steps, check_duration, constant, pulses, steps
from labctl.models.neuron_wave import Track

__all__ = ["Biases", "LifParams", "Neurons", "Spikes", "ldo_current", "leaks", "pulse_width", "pulses", "slew"]


class Neurons:
    """n neurons as a structure of arrays; at creation at rest, without input, unconnected.

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
        self._v_os = broadcast(self.params, n)["v_os"]
        self._noise, self._seed = noise, np.uint64(seed)
        self._on, self._silent = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        self._state = np.zeros((n, STATES))
        self._conditions = np.zeros((n, CONDITIONS))
        self._ledger = {name: np.zeros(n) for name in ("powered", "low", "spikes_low")}
        self._tracks: dict[int, Track] = {}
        self._out_to, self._thr_from = np.full(n, -1), np.full(n, -1)
        self._r_joined = np.full(n, 1e30)
        self._external = np.zeros(n)
        self._buffer = np.empty(0)
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
        on = volts["v_dd"] >= V_DD_MIN
        new = conditions(self.params, volts, on, self.temperature, self._noise)
        new[self._silent, C_THR] = np.inf
        switched = on != self._on
        changed = switched | (new != self._conditions).any(axis=1) | (volts["v_dd"] != self._volts["v_dd"])
        state = self._state
        held = state[:, S_PHASE] == HOLD
        state[held, S_LEFT] *= new[held, C_PW] / self._conditions[held, C_PW]
        for column in (S_V, S_PHASE, S_LEFT, S_I, S_DEAD, S_SETTLE):
            state[switched, column] = 0.0
        self._external[switched] = 0.0
        for k, track in self._tracks.items():
            track.fresh |= bool(changed[k])
        self._biases, self._volts, self._conditions, self._on = biases, volts, new, on
        self._low = on & (volts["v_bcomp"] < V_BCOMP_LOW)
        self._sort_out()

    def silence(self, neurons: Sequence[int]) -> None:
        """Break the comparators of these neurons: they integrate and never fire."""
        which = [self._index(neuron) for neuron in neurons]
        self._silent[which] = True
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
    def pulse_widths(self) -> FloatArray:
        """T_pw of each neuron under the present biases, (n,), s."""
        return self._conditions[:, C_PW].copy()

    @property
    def hold_left(self) -> FloatArray:
        """How long each output stays high from now, (n,), s; 0 where it is low."""
        return np.where(self.out, self._state[:, S_LEFT], 0.0)

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
        links = {"out_to": self._out_to, "thr_from": self._thr_from, "r_joined": self._r_joined}
        state |= {name: values.copy() for name, values in links.items()}
        return state | {"state": self._state.copy(), "external": self._external.copy(), "time": np.array(self.time)}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Take back what `state` gave, for neurons made alike; watches start anew."""
        wanted = self.state()
        if set(state) != set(wanted) or any(np.shape(state[k]) != v.shape for k, v in wanted.items()):
            raise UsageError(f"this is no state of {self.n} neurons; give what Neurons.state() returned")
        numbers = {k: np.array(v, np.float64) for k, v in state.items()}
        self.biases = Biases(**{f.name: numbers[f"bias.{f.name}"] for f in fields(Biases)})
        self._out_to, self._thr_from = numbers["out_to"].astype(np.int64), numbers["thr_from"].astype(np.int64)
        self._state, self._external, self.time = numbers["state"], numbers["external"], float(numbers["time"])
        self._r_joined = numbers["r_joined"]
        self._ledger = {k: numbers[f"ledger.{k}"] for k in self._ledger}
        self._tracks = {k: Track(self.time) for k in self._tracks}
        self._sort_out()

    # composition -------------------------------------------------------------------------------------------------

    def join_output(self, neuron: int, to: int | None, r_syn: float = 10e3) -> None:
        """Let the output of `neuron` drive the pad of neuron `to` through `r_syn` (Ω) too; None: nothing but itself.

        While the output is high, (V_dd − V_ref)/r_syn flows into `to`, unless its own input gives more. Several outputs
        on one pad are a wired OR, through the resistance that was given last.
        """
        source = self._index(neuron)
        if to is not None:
            ldo_current(0.0, 0.0, r_syn)  # checks
            self._r_joined[self._index(to)] = r_syn
        self._out_to[source] = -1 if to is None else to
        self._sort_out()

    def take_threshold(self, neuron: int, of: int | None) -> None:
        """Let the (buffered) membrane of neuron `of` be the threshold of `neuron`; None: the bias V_thr again."""
        if of is not None and self._index(of) == self._index(neuron):
            raise UsageError(f"neuron {neuron} cannot be its own threshold; give another neuron, or None")
        self._thr_from[self._index(neuron)] = -1 if of is None else of
        self._sort_out()

    def regulate(self, primaries: Sequence[int], regulator: int, r_syn: float = 10e3) -> None:
        """Make adaptive neurons (Garg et al., Fig. 7): `regulator` integrates the spikes of all `primaries`, and its
        membrane is their threshold. Its own V_thr must be out of its reach (the paper's regulator goes to 2 V)."""
        if regulator in [self._index(primary) for primary in primaries]:
            raise UsageError(f"neuron {regulator} cannot regulate itself; give another neuron")
        for primary in primaries:
            self.join_output(primary, regulator, r_syn)
            self.take_threshold(primary, regulator)

    def connects(self, part: ArrayLike) -> bool:
        """Whether a neuron in the mask `part`, (n,), is joined to one that is not."""
        inside = np.asarray(part, np.bool_)
        for links in (self._out_to, self._thr_from):
            linked = np.flatnonzero(links >= 0)
            if (inside[linked] != inside[links[linked]]).any():
                return True
        return False

    def _sort_out(self) -> None:
        """Which neurons act on each other and which are alone; a pad that was left has its own current again."""
        linked = np.zeros(self.n, np.bool_)
        for links in (self._out_to, self._thr_from):
            linked |= links >= 0
            linked[links[links >= 0]] = True
        for k in map(int, np.flatnonzero(~linked & (self._state[:, S_I] != self._external))):
            kernel.set_current(self._state[k], self._conditions[k], self._seed, k, self._external[k])
            if k in self._tracks:
                self._tracks[k].fresh = True
        self._linked = np.flatnonzero(linked)
        apart = linked.copy()
        apart[list(self._tracks)] = True
        self._free = np.flatnonzero(~apart)
        self._alone = [k for k in self._tracks if not linked[k]]
        self._i_joined = ldo_current(self._volts["v_dd"], self._volts["v_ref"], self._r_joined) * self._on

    # time --------------------------------------------------------------------------------------------------------

    def advance(self, duration: float, i_syn: ArrayLike = 0.0) -> Spikes:
        """Let `duration` s pass with a constant current (A) into each neuron, a number or (n,), 0 … 200 µA."""
        check_duration(duration)
        return self._advance(duration, constant(self.n, i_syn))

    def advance_steps(self, duration: float, times: StepLists, currents: StepLists) -> Spikes:
        """Let `duration` s pass with piecewise constant currents; until its first step a neuron keeps its current.

        times: s from the start of the call, ascending, 0 … duration: (k,) for all neurons alike, or a sequence of n
        arrays. currents: A, in force from the time beside it: (k,) or (k, n), or a sequence of n arrays. Of steps at
        one time the last counts.
        """
        check_duration(duration)
        return self._advance(duration, steps(self.n, duration, times, currents))

    def advance_to_edge(self, duration: float, i_syn: ArrayLike, of: ArrayLike) -> tuple[float, Spikes]:
        """As `advance`, but only until the next edge of the output of a neuron in the mask `of`, (n,): (s, spikes)."""
        check_duration(duration)
        given = constant(self.n, i_syn)
        given = given._replace(last=np.where(self._on, given.last, given.first))
        before = self._state[:, S_SPIKES].copy()
        lists: list[Lists] = []
        passed = self._run_linked(lists, np.arange(self.n), duration, given, np.asarray(of, np.bool_))
        self._external = given.currents * self._on
        self._pass(passed, before)
        return passed, in_order(lists, passed)

    def advance_in_turn(
        self,
        duration: float,
        i_syn: ArrayLike,
        later: ArrayLike,
        drive: Callable[[Spikes], tuple[FloatArray, FloatArray]],
    ) -> Spikes:
        """As `advance`, in two turns: the neurons in the mask `later`, (n,), get the currents that `drive` makes of the
        spikes of the others: (times (k,), currents (k, number of later neurons)). Nothing may connect the two parts."""
        check_duration(duration)
        given = constant(self.n, i_syn)
        second = np.asarray(later, np.bool_)
        before = self._state[:, S_SPIKES].copy()
        lists: list[Lists] = []
        self._run(lists, ~second, duration, given)
        times, currents = drive(in_order(lists, duration))
        every = np.zeros((len(times), self.n))
        every[:, second] = currents
        driven = steps(self.n, duration, times, every)
        self._run(lists, second, duration, driven)
        self._external = given.currents * self._on
        self._external[second] = every[-1, second]
        self._pass(duration, before)
        return in_order(lists, duration)

    def _advance(self, duration: float, given: Steps) -> Spikes:
        before = self._state[:, S_SPIKES].copy()
        lists: list[Lists] = []
        self._run(lists, None, duration, given)
        if given.steady:
            self._external = given.currents * self._on
        elif len(given.times):
            stepped = (given.last > given.first) & self._on
            self._external[stepped] = given.currents[(given.last + given.shift - 1)[stepped]]
        self._pass(duration, before)
        return in_order(lists, duration)

    def _pass(self, duration: float, before: FloatArray) -> None:
        self._ledger["powered"] += duration * self._on
        if self._low.any():
            self._ledger["low"] += duration * self._low
            self._ledger["spikes_low"] += (self._state[:, S_SPIKES] - before) * self._low
        self.time += duration

    def _run(self, lists: list[Lists], only: NDArray[np.bool_] | None, duration: float, given: Steps) -> None:
        """Advance all neurons (or those in the mask `only`); a neuron without supply gets no current."""
        if not self._on.all():
            given = given._replace(last=np.where(self._on, given.last, given.first))
        free, alone, linked = self._free, self._alone, self._linked
        if only is not None:
            free, linked, alone = free[only[free]], linked[only[linked]], [k for k in alone if only[k]]
        if free.size:
            self._run_free(lists, free, duration, given)
        for k in alone:
            self._run_watched(lists, k, duration, given)
        if linked.size:
            self._run_linked(lists, linked, duration, given, np.zeros(self.n, np.bool_))

    def _run_free(self, lists: list[Lists], which: NDArray[np.int64], duration: float, given: Steps) -> None:
        """Neurons that are not watched; where the room for spikes was too small, go on from there with more."""
        s, c = self._state, self._conditions
        known = np.full((self.n, 2), -1.0)
        if given.steady and which.size == self.n:
            room = kernel.expected(c, duration, given.currents, known)
        else:
            room = np.full(which.size, 64)
        reached = np.zeros(self.n)
        while True:
            offsets = np.zeros(which.size + 1, np.int64)
            np.cumsum(room, out=offsets[1:])
            if offsets[-1] > self._buffer.size:
                self._buffer = np.empty(offsets[-1])
            spikes = self._buffer if not lists else np.empty(offsets[-1])
            counts = np.zeros(which.size, np.int64)
            part = partial(
                kernel.run_all, s, c, self._seed, which, reached, duration, *given[:5], spikes, offsets, counts, known
            )
            in_threads(part, offsets, int(offsets[-1]) + which.size * len(given.times))
            lists.append(Lists(spikes, offsets, counts, which))
            short = reached[which] < duration
            if not short.any():
                return
            which, room = which[short], 4 * room[short]

    def _run_watched(self, lists: list[Lists], k: int, duration: float, given: Steps) -> None:
        track, known, ws = self._tracks[k], np.full(2, -1.0), workspace()
        t, room = 0.0, 64
        first, last, shift = int(given.first[k]), int(given.last[k]), int(given.shift[k])
        times, currents = given.times[first:last], given.currents[first + shift : last + shift]
        while True:
            spikes, record = np.empty(room), np.empty((4 * room, 4))
            t, n, marks, due = kernel.run(
                self._state[k], self._conditions[k], self._seed, k, t, duration, times, currents, spikes, record,
                track.fresh, known, ws,
            )  # fmt: skip
            self._keep(k, record[:marks], due)
            lists.append(Lists(spikes, np.array([0, n]), np.array([n]), np.array([k])))
            if t >= duration:
                return
            room = min(4 * room, 1 << 16)

    def _run_linked(
        self, lists: list[Lists], which: NDArray[np.int64], duration: float, given: Steps, stop_at: NDArray[np.bool_]
    ) -> float:
        """Neurons that act on each other, together; returns when they stopped."""
        watched, fresh = np.zeros(self.n, np.bool_), np.zeros(self.n, np.bool_)
        for k in which:
            if k in self._tracks:
                watched[k], fresh[k] = True, self._tracks[k].fresh
        t, room = 0.0, 64 + which.size
        while True:
            spike_t, spike_k, record = np.empty(room), np.empty(room, np.int64), np.empty((4 * room, 5))
            t, n, marks, edge = run_group(
                self._state, self._conditions, self._seed, which, t, duration, *given[:5], self._external, self._out_to,
                self._thr_from, self._v_os, self._i_joined, stop_at, watched, fresh, spike_t, spike_k, record,
            )  # fmt: skip
            for k in self._tracks:
                if watched[k]:
                    self._keep(k, record[:marks][record[:marks, 4] == k, :4], bool(fresh[k]))
            for k in np.unique(spike_k[:n]):
                mine = spike_t[:n][spike_k[:n] == k]
                lists.append(Lists(mine, np.array([0, mine.size]), np.array([mine.size]), np.array([k])))
            if t >= duration or edge:
                return float(t)
            room = min(4 * room, 1 << 16)

    def _keep(self, k: int, record: FloatArray, due: bool) -> None:
        """Store segments; `due`: the next call has to begin with one."""
        track = self._tracks[k]
        if len(record):
            record[:, 0] += self.time
            track.add(record, self._conditions[k], float(self._volts["v_dd"][k]))
        track.fresh = due

    # looking -----------------------------------------------------------------------------------------------------

    def watch(self, neuron: int) -> None:
        """Keep the past of a neuron from now on, until `unwatch`; unwatched neurons store nothing."""
        self._tracks.setdefault(self._index(neuron), Track(self.time))
        self._sort_out()

    def unwatch(self, neuron: int) -> None:
        """Drop the past of a neuron and keep no more of it."""
        self._tracks.pop(self._index(neuron), None)
        self._sort_out()

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

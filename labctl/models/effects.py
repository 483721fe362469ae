"""What happens to every memristor, whatever its switching model: one implementation for all of them.

Each effect is a function of (seed, cell, count, time), see `counter_rng`, and is evaluated when a cell is touched:
waiting costs nothing, and two waits of 1 s are one wait of 2 s to the last bit.

- Relaxation after programming: G moves by a sum of exponentials, one for each decade of time from 0.1 ms to 1e5 s, each
  with its own normal amplitude: a random walk in log(t). σ(G) = 2.3 / 4.5 / 7.8 µS at 10 ms / 1 s / 1e4 s and a mean of
  −0.1 → −1.3 µS, as recorded on a 1T1R array; its dependence on G/g_max is the 1 s polynomial recorded on another
  array, normalised to mean 1 over 0 … g_max. Above g_max it is held (assumption).
- Retention: ln G moves to ln g_end as exp(−(t/τ)^β), τ = τ_0·exp(E_a/k·(1/T − 1/T_0)) (Arrhenius), τ_0 log-normal over
  cells.
- RTN: independent two-state Markov traps; rates log-uniform, stationary occupancy uniform in 0.1 … 0.9. The amplitude
  is normal in LRS and log-normal in HRS, interpolated in ln G, so that it is smaller at higher current.
- Read noise: white, 4kT·G·B + 2e|I|·B. What is recorded at low frequency (0.5 … 10 µS over 250 s at 400 Hz) is RTN.
- Endurance: the ln-window shrinks as 1/(1 + (n/life)^shape), n cycles worth of movement, life log-normal over cells.
- Temperature speeds up retention only (assumption).
- Defects: cells that are stuck, shorted, open, or that never form.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from math import exp, floor, inf, log, sqrt
from typing import Annotated as A
from typing import Any, get_type_hints

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.errors import ParameterError
from labctl.models.counter_rng import normal, normal_pair, uniform
from labctl.models.transistor import BOLTZMANN
from labctl.quantity import Q

HEALTHY, STUCK, SHORTED, NEVER_FORMING, OPEN = range(5)

_FRACTION = Q("", 0.0, 1.0, "fraction of the cells")
_SCALE = Q("", 0.0, 100.0, "1 is what was recorded, 0 switches it off")


def check(parameters: Any) -> None:
    """Hold each number of a dataclass against the `Q` of its annotation; raises `ParameterError`."""
    hints = get_type_hints(type(parameters), include_extras=True)
    for item in fields(parameters):
        for mark in getattr(hints[item.name], "__metadata__", ()):
            if isinstance(mark, Q):
                mark.check(item.name, getattr(parameters, item.name))


@dataclass(frozen=True)
class Effects:
    """Strengths of the common effects; `Effects.none()` is an ideal array."""

    relaxation: A[float, _SCALE] = 1.0
    relaxation_g_max: A[float, Q("S", 1e-9, 1.0, "upper end of the programmed range")] = 128e-6
    retention: A[float, Q("", 0.0, 1.0, "part of ln(G/g_end) that is lost in the end")] = 1.0
    retention_tau: A[float, Q("s", 1e-3, 1e15, "time constant at retention_temperature")] = 3.2e8
    retention_temperature: A[float, Q("K", 50.0, 1000.0, "where retention_tau holds (10 years at 85 °C)")] = 358.0
    retention_energy: A[float, Q("eV", 0.0, 3.0, "activation energy of retention")] = 1.2
    retention_shape: A[float, Q("", 0.1, 3.0, "exponent β of the stretched exponential")] = 0.5
    retention_spread: A[float, Q("", 0.0, 3.0, "σ of ln τ over cells")] = 0.5
    retention_g_end: A[float, Q("S", 1e-12, 1.0, "where conductances end")] = 11e-6
    rtn: A[float, _SCALE] = 1.0
    rtn_traps: A[int, Q("", 0, 16, "two-state traps a cell")] = 3
    rtn_lrs: A[float, Q("", 0.0, 1.0, "mean ΔG/G of a trap at and above rtn_g_lrs")] = 0.02
    rtn_lrs_sigma: A[float, Q("", 0.0, 1.0, "standard deviation of ΔG/G there")] = 0.01
    rtn_hrs: A[float, Q("", 0.0, 10.0, "median ΔG/G of a trap at and below rtn_g_hrs")] = 0.1
    rtn_hrs_sigma: A[float, Q("", 0.0, 3.0, "σ of ln(ΔG/G) there")] = 0.8
    rtn_g_lrs: A[float, Q("S", 1e-9, 1.0, "normal amplitudes from here up")] = 150e-6
    rtn_g_hrs: A[float, Q("S", 1e-12, 1.0, "log-normal amplitudes from here down")] = 10e-6
    rtn_rate_low: A[float, Q("1/s", 1e-9, 1e9, "slowest trap")] = 0.01
    rtn_rate_high: A[float, Q("1/s", 1e-9, 1e9, "fastest trap")] = 1e4
    read_noise: A[float, _SCALE] = 1.0
    endurance_life: A[float, Q("cycles", 1.0, 1e18, "where the ln-window is half")] = 1e8
    endurance_shape: A[float, Q("", 0.05, 10.0, "exponent of the wear law")] = 0.7
    endurance_spread: A[float, Q("", 0.0, 3.0, "σ of ln life over cells")] = 0.5

    def __post_init__(self) -> None:
        check(self)
        if self.rtn_g_hrs >= self.rtn_g_lrs or self.rtn_rate_low > self.rtn_rate_high:
            raise ParameterError("rtn_g_hrs must be below rtn_g_lrs, and rtn_rate_low not above rtn_rate_high")

    @classmethod
    def none(cls) -> "Effects":
        """No relaxation, no retention loss, no RTN, no read noise, no wear."""
        return cls(relaxation=0.0, retention=0.0, rtn=0.0, rtn_traps=0, read_noise=0.0, endurance_life=1e18)

    def vector(self) -> NDArray[np.float64]:
        """The numbers in the order that the kernels read, see the `E_…` indices."""
        # below this many cycles the window of any cell is whole to 1e-6, and need not be worked out
        whole = self.endurance_life * exp(-6.0 * self.endurance_spread) * 1e-6 ** (1.0 / self.endurance_shape)
        return np.array([*(getattr(self, item.name) for item in fields(self)), whole], dtype=np.float64)


(
    E_RELAX, E_G_MAX, E_RET, E_RET_TAU, E_RET_T, E_RET_EA, E_RET_SHAPE, E_RET_SPREAD, E_RET_END, E_RTN, E_TRAPS, E_LRS,
    E_LRS_SIGMA, E_HRS, E_HRS_SIGMA, E_G_LRS, E_G_HRS, E_RATE_LOW, E_RATE_HIGH, E_NOISE, E_LIFE, E_LIFE_SHAPE,
    E_LIFE_SPREAD, E_WHOLE,
) = range(24)  # fmt: skip
EFFECTS = 24
"""Length of `Effects.vector`."""

# streams of `counter_rng`; models use 0 … 999
_S_RELAX, _S_RET, _S_LIFE, _S_NOISE, _S_AVERAGE, _S_DEFECT, _S_FORM, _S_TRAP = (
    1000, 1020, 1021, 1022, 1040, 1060, 1061, 1100,
)  # fmt: skip

_MODE_SIGMA = np.array([0.57, 1.62, 2.30, 2.78, 2.96, 2.91, 3.22, 3.40, 3.59, 3.88]) * 1e-6
_MODE_MEAN = np.array([0.0, 0.0, 0.123, 0.239, 0.184, 0.207, 0.196, 0.204, 0.190, 0.249]) * -1e-6
_MODE_TAU = 10.0 ** np.arange(-4, 6)
# σ(µS) after 1 s over g/g_max, lowest power first, and its mean over 0 … 1
_SHAPE = np.array([0.348, 16.03, -43.853, 45.393, -16.815])
_SHAPE_MEAN = float((_SHAPE / np.arange(1, 6)).sum())


@njit(cache=True)
def relaxation_shape(g: float, g_max: float) -> float:
    """σ at conductance `g` (S) over its mean across 0 … g_max; pure number."""
    x = min(max(g / g_max, 0.0), 1.0)
    polynomial = _SHAPE[0] + x * (_SHAPE[1] + x * (_SHAPE[2] + x * (_SHAPE[3] + x * _SHAPE[4])))
    return float(polynomial / _SHAPE_MEAN)


@njit(cache=True)
def _no_relaxation(t: float, e: NDArray[np.float64]) -> bool:
    return bool(e[E_RELAX] == 0.0 or t <= 1e-6)


@njit(cache=True)
def _no_retention(t: float, e: NDArray[np.float64]) -> bool:
    return bool(e[E_RET] == 0.0 or t < 1e-12 * e[E_RET_TAU])


@njit(cache=True)
def settled(t: float, t_retention: float, e: NDArray[np.float64]) -> bool:
    """Whether `drift` is nil so soon after programming; the times as there."""
    return bool(_no_relaxation(t, e) and _no_retention(t_retention, e))


@njit(cache=True)
def _relaxation(seed: np.uint64, cell: int, event: int, t: float, g: float, e: NDArray[np.float64]) -> float:
    """Shift of ln G, `t` seconds after programming event number `event` to `g` (S)."""
    if _no_relaxation(t, e):
        return 0.0
    shift, variance, mean = 0.0, 0.0, 0.0
    for pair in range(5):
        z0, z1 = normal_pair(seed, cell, event, _S_RELAX + pair)
        for half in range(2):
            k = 2 * pair + half
            x = t / _MODE_TAU[k]
            done = 1.0 if x > 40.0 else 1.0 - exp(-x)
            shift += (z0 if half == 0 else z1) * _MODE_SIGMA[k] * done
            variance += (_MODE_SIGMA[k] * done) ** 2
            mean += _MODE_MEAN[k] * done
    scale = e[E_RELAX] * relaxation_shape(g, e[E_G_MAX])
    # a log-normal factor with the recorded mean and σ of G keeps every conductance positive
    relative = scale * scale * variance / (g * g)
    s = sqrt(log(1.0 + relative))
    return log(max(1.0 + scale * mean / g, 0.1)) - 0.5 * s * s + s * shift / sqrt(variance)


@njit(cache=True)
def _retention(seed: np.uint64, cell: int, t: float, g: float, e: NDArray[np.float64]) -> float:
    """Shift of ln G, `t` seconds at retention_temperature (Arrhenius-weighted) after programming to `g` (S)."""
    if _no_retention(t, e):
        return 0.0
    tau = e[E_RET_TAU] * exp(e[E_RET_SPREAD] * normal(seed, cell, 0, _S_RET))
    lost = 1.0 - exp(-float((t / tau) ** e[E_RET_SHAPE]))
    return log(e[E_RET_END] / g) * float(e[E_RET]) * lost


@njit(cache=True)
def drift(
    seed: np.uint64, cell: int, event: int, t: float, t_retention: float, g: float, e: NDArray[np.float64]
) -> float:
    """Shift of ln G since programming event number `event`, which left conductance `g` (S).

    `t` in s of real time, `t_retention` in s of Arrhenius-weighted time (`arrhenius`).
    """
    return _relaxation(seed, cell, event, t, g, e) + _retention(seed, cell, t_retention, g, e)


@njit(cache=True)
def arrhenius(temperature: float, e: NDArray[np.float64]) -> float:
    """Seconds of retention clock a second at `temperature` (K)."""
    return exp(e[E_RET_EA] / BOLTZMANN * (1.0 / e[E_RET_T] - 1.0 / temperature))


@njit(cache=True)
def _occupied(seed: np.uint64, cell: int, stream: int, x: float, p: float) -> float:
    """State (0 or 1) of a stationary two-state Markov process at time `x`, in units of 1/rate.

    Events come as a Poisson process of rate 1, and each redraws the state; the state is the one drawn last before `x`.
    The events of a bin of length 1 are drawn from the bin's number, so any time can be asked without a history.
    """
    index = floor(x)
    last = x - index
    while True:
        u, probability, count = uniform(seed, cell, index, stream), exp(-1.0), 0
        while u > probability and count < 20:
            u -= probability
            count += 1
            probability /= count
        newest, which = -1.0, -1
        for j in range(count):
            position = uniform(seed, cell, index, stream + 1 + j)
            if newest < position <= last:
                newest, which = position, j
        if which >= 0:
            return 1.0 if uniform(seed, cell, index, stream + 40 + which) < p else 0.0
        index -= 1
        last = 1.0


@njit(cache=True)
def rtn(seed: np.uint64, cell: int, t: float, g: float, bandwidth: float, count: int, e: NDArray[np.float64]) -> float:
    """Factor on the current of a cell of conductance `g` (S) at time `t` (s).

    A measurement of `bandwidth` (Hz) averages over 1/(2·bandwidth); `count` numbers the measurements of the cell.
    Infinite bandwidth samples the traps, 0 gives their mean, which is 1.
    """
    if e[E_RTN] == 0.0 or bandwidth == 0.0:
        return 1.0
    weight = min(max(log(g / e[E_G_HRS]) / log(e[E_G_LRS] / e[E_G_HRS]), 0.0), 1.0)
    factor = 1.0
    for trap in range(int(e[E_TRAPS])):
        stream = _S_TRAP + 100 * trap
        rate = e[E_RATE_LOW] * (e[E_RATE_HIGH] / e[E_RATE_LOW]) ** uniform(seed, cell, 0, stream + 90)
        p = 0.1 + 0.8 * uniform(seed, cell, 0, stream + 91)
        z0, z1 = normal_pair(seed, cell, 0, stream + 92)
        low = e[E_LRS] + e[E_LRS_SIGMA] * z0
        amplitude = weight * low + (1.0 - weight) * e[E_HRS] * exp(e[E_HRS_SIGMA] * z1)
        averaged = rate / (2.0 * bandwidth)
        if averaged < 1.0:
            level = _occupied(seed, cell, stream, t * rate, p)
        else:
            level = p + sqrt(p * (1.0 - p) * 2.0 / averaged) * normal(seed, cell, count, _S_AVERAGE + trap)
        factor += e[E_RTN] * amplitude * (level - p)
    return max(factor, 0.05)


@njit(cache=True)
def white_noise(
    seed: np.uint64,
    cell: int,
    count: int,
    current: float,
    v: float,
    bandwidth: float,
    temperature: float,
    e: NDArray[np.float64],
) -> float:
    """Noise current (A) of measurement number `count`: thermal and shot, sd = √(4kT·B·|I/V| + 2e·B·|I|)."""
    if e[E_NOISE] == 0.0 or bandwidth == 0.0 or current == 0.0:
        return 0.0
    thermal = 4.0 * BOLTZMANN * temperature * abs(current / v) if v != 0.0 else 0.0
    variance = 1.602176634e-19 * bandwidth * (thermal + 2.0 * abs(current))
    return float(e[E_NOISE] * sqrt(variance) * normal(seed, cell, count, _S_NOISE))


@njit(cache=True)
def window(seed: np.uint64, cell: int, cycles: float, e: NDArray[np.float64]) -> float:
    """Part of the ln-window that is left after `cycles` full cycles."""
    if cycles < e[E_WHOLE]:
        return 1.0
    ratio = log(cycles / e[E_LIFE]) - e[E_LIFE_SPREAD] * normal(seed, cell, 0, _S_LIFE)
    return 1.0 / (1.0 + exp(float(e[E_LIFE_SHAPE] * ratio)))


@njit(cache=True)
def forming_voltage(seed: np.uint64, cell: int, scale: float, shape: float) -> float:
    """Voltage (V) at which a pristine cell forms: a Weibull draw of the device; `scale` is its 63 % quantile."""
    return float(scale * (-log(uniform(seed, cell, 0, _S_FORM))) ** (1.0 / shape))


@dataclass(frozen=True)
class Defects:
    """Cells that do not work: a fraction drawn by the seed, and cells named by flat index (which win)."""

    stuck: A[float, _FRACTION] = 0.0
    shorted: A[float, _FRACTION] = 0.0
    never_forming: A[float, _FRACTION] = 0.0
    open: A[float, _FRACTION] = 0.0
    stuck_cells: Sequence[int] = field(default=())
    shorted_cells: Sequence[int] = field(default=())
    never_forming_cells: Sequence[int] = field(default=())
    open_cells: Sequence[int] = field(default=())

    def __post_init__(self) -> None:
        check(self)
        if self.stuck + self.shorted + self.never_forming + self.open > 1.0:
            raise ParameterError("the fractions of defective cells add up to more than 1; lower one of them")

    def codes(self, seed: int, cells: int) -> NDArray[np.int64]:
        """HEALTHY, STUCK, SHORTED, NEVER_FORMING or OPEN for each cell; raises `ParameterError` for a cell outside."""
        shares = np.cumsum([self.stuck, self.shorted, self.never_forming, self.open])
        kinds = np.array([STUCK, SHORTED, NEVER_FORMING, OPEN, HEALTHY])
        codes = np.full(cells, HEALTHY, dtype=np.int64)
        if shares[-1] > 0:
            codes[:] = kinds[np.searchsorted(shares, _uniforms(np.uint64(seed), cells, _S_DEFECT), side="right")]
        lists = (self.stuck_cells, self.shorted_cells, self.never_forming_cells, self.open_cells)
        for kind, named in zip(kinds, lists, strict=False):
            for cell in named:
                if not 0 <= cell < cells:
                    raise ParameterError(f"defective cell {cell} is outside the array of {cells} cells")
                codes[cell] = kind
        return codes


@njit(cache=True)
def _uniforms(seed: np.uint64, cells: int, stream: int) -> NDArray[np.float64]:
    out = np.empty(cells)
    for cell in range(cells):
        out[cell] = uniform(seed, cell, 0, stream)
    return out


SAMPLED = inf
"""Bandwidth of a measurement that sees the traps as they are."""

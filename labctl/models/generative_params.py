"""Parameters of the generative model: what they are, how they are checked, read and written.

A file is either ours (JSON, ``"format": "labctl-generative"``) or the one that the PyPI package `synaptogen` publishes.
"""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.errors import StorageError, UsageError

FORMAT = "labctl-generative"
VERSION = 1
DEFAULT = Path(__file__).with_name("generative_default.json")
"""Fitted by `labctl.models.fit_generative`; the file says to what."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Gate:
    """Access transistor as a current limit: I_sat = k/2 (v_wl - min(v_bl, v_sl) - v_t)**2, 0 below v_t.

    Assumed, not fitted: the published devices were measured through their transistors, at one gate voltage. `v_full`
    (V) is the overdrive above which the model is as published (no limit).
    """

    v_t: float = 0.6
    k: float = 1e-3
    v_full: float = 1.0


@dataclass(frozen=True)
class Timing:
    """Pulse width: the voltage thresholds move with log10(width) by -beta (V a decade) from the reference width (s).

    Assumed, not fitted: published files tell no time. `beta_set` and `beta_reset` are of the size seen on HfO2 cells.
    """

    width: float = 1e-6
    beta_set: float = 0.06
    beta_reset: float = 0.05


@dataclass(frozen=True, eq=False)
class GenerativeParams:
    """Parameters of Hennen et al., Front. Neurosci. 16:941753 (2022), and of the time and the gate added to it.

    Features of a cycle: y = (log10 R_HRS/Ω, U_SET/V, R_LRS/Ω, U_RESET/V); U = v_sl - v_bl, so U_SET < 0.

    - x_n = L e + sum_i A_i x_{n-i}: `innovation` L (4, 4), `lags` A (p, 4, 4), lag 1 first; e standard normal.
    - y = mu + sigma * Gamma(x): `gamma` (4, 5), quartics, highest power first.
    - (mu, sigma) of a device: Gaussian mixture, `weights` (K,), `means` (K, 8), `spreads` (K, 8, 8) lower triangular.
    - I(U) = (1 - r) LLRS(U) + r HHRS(U): `llrs`, `hhrs` (A, highest power of volt first, no offset). Resistances are
      those at `u_read` (V, of either sign: the curves are not symmetric).
    - RESET transition: exponent `eta`, complete at `u_max` (V). `u_limit`: the polynomials hold for |U| <= u_limit (V).
    """

    innovation: FloatArray
    lags: FloatArray
    gamma: FloatArray
    weights: FloatArray
    means: FloatArray
    spreads: FloatArray
    llrs: FloatArray
    hhrs: FloatArray
    u_read: float
    u_max: float
    eta: float
    u_limit: float = 1.5
    gate: Gate = field(default_factory=Gate)
    timing: Timing = field(default_factory=Timing)
    provenance: str = ""

    def __post_init__(self) -> None:
        """Check everything; raises `UsageError`."""
        k = np.size(self.weights)
        p = len(np.atleast_1d(self.lags))
        shapes = {
            "innovation": (4, 4), "lags": (p, 4, 4), "gamma": (4, 5), "weights": (k,), "means": (k, 8),
            "spreads": (k, 8, 8), "llrs": (np.size(self.llrs),), "hhrs": (np.size(self.hhrs),),
        }  # fmt: skip
        for name, shape in shapes.items():
            try:
                value = np.array(getattr(self, name), np.float64)
            except (TypeError, ValueError):
                raise UsageError(
                    f"{name} of the generative model is not an array of numbers of shape {shape}"
                ) from None
            if value.shape != shape or value.size == 0:
                raise UsageError(f"{name} of the generative model has shape {value.shape}; expected {shape}, not empty")
            if not np.isfinite(value).all():
                raise UsageError(f"{name} of the generative model contains NaN or infinity; give finite numbers")
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        for name, value in (
            [("|u_read|", abs(self.u_read))]
            + [(n, getattr(self, n)) for n in ("u_max", "eta", "u_limit")]
            + [
                (f"{part}.{f.name}", getattr(getattr(self, part), f.name))
                for part in ("gate", "timing")
                for f in fields(getattr(self, part))
            ]
        ):
            if not (isinstance(value, int | float) and np.isfinite(value) and value > 0):
                raise UsageError(f"{name} = {value!r} of the generative model; give a finite number > 0")
        if p > 255:
            raise UsageError(f"order p = {p} of the VAR; the limit is 255")
        if max(self.llrs.size, self.hhrs.size) > 8:
            raise UsageError(
                f"llrs has {self.llrs.size} coefficients, hhrs {self.hhrs.size}; the limit is 8 (degree 7)"
            )
        if not ((self.weights > 0).all()):
            raise UsageError(f"weights = {self.weights} of the mixture; each must be > 0")
        radius = self.radius()
        if radius >= 1:
            raise UsageError(f"the VAR is not stationary: spectral radius {radius:.4f}; the limit is 1, check the lags")
        g_l, g_h = (np.polyval(c, self.u_read) / self.u_read for c in (self.llrs, self.hhrs))
        if not g_l > g_h:
            raise UsageError(
                f"G_LLRS = {g_l:.3g} S is not above G_HHRS = {g_h:.3g} S at {self.u_read} V; check llrs, hhrs"
            )

    @property
    def order(self) -> int:
        """Order p of the VAR."""
        return len(self.lags)

    def companion(self) -> FloatArray:
        """(4p, 4p) matrix that moves (x_n, x_n-1, …) one cycle on."""
        p = self.order
        matrix = np.zeros((4 * p, 4 * p))
        matrix[:4] = np.concatenate(self.lags, axis=1)
        matrix[4:, :-4] = np.eye(4 * p - 4)
        return matrix

    def radius(self) -> float:
        """Spectral radius of the VAR; < 1 means stationary."""
        return float(np.abs(np.linalg.eigvals(self.companion())).max())

    def covariance(self) -> FloatArray:
        """Stationary covariance (4p, 4p) of (x_n, x_n-1, …, x_n-p+1), from S = C S C' + Q by doubling."""
        step = self.companion()
        total = np.zeros_like(step)
        total[:4, :4] = self.innovation @ self.innovation.T
        while np.abs(step).max() > 1e-12:
            total += step @ total @ step.T
            step = step @ step
        return (total + total.T) / 2

    def autocovariance(self, lags: int) -> FloatArray:
        """E[x_n x'_{n-k}], (lags + 1, 4, 4), of the stationary process (Yule-Walker recursion)."""
        known = self.covariance()
        out = [known[:4, 4 * k : 4 * k + 4] for k in range(min(self.order, lags + 1))]
        while len(out) <= lags:
            # for k >= p > 0 only positive lags are needed
            out.append(sum((a @ out[len(out) - 1 - i] for i, a in enumerate(self.lags)), np.zeros((4, 4))))
        return np.array(out)

    def save(self, path: str | Path) -> None:
        """Write a parameter file (JSON); raises `StorageError`."""
        data: dict[str, Any] = {"format": FORMAT, "version": VERSION, "provenance": self.provenance}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                data[item.name] = value.tolist()
            elif isinstance(value, Gate | Timing):
                data[item.name] = {f.name: getattr(value, f.name) for f in fields(value)}
            else:
                data[item.name] = value
        try:
            Path(path).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise StorageError(
                f"cannot write the parameter file {path}: {error.strerror}; check folder and rights"
            ) from error


def load(path: str | Path, order: int | None = None) -> GenerativeParams:
    """Read a parameter file of ours, or Synaptogen's JSON.

    `order`: which of the published VAR models to take (None: the highest); a file of ours holds one order only.
    Raises `UsageError` for a file that is neither, of another version, or without this order.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"cannot read the parameter file {path}: {error.strerror}; give the path of a JSON file"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}); give a parameter file of the generative model") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path} holds no parameters; give a parameter file of the generative model")
    return _published(path, data, order) if "γ" in data else _ours(path, data, order)


def _ours(path: str | Path, data: dict[str, Any], order: int | None) -> GenerativeParams:
    if data.pop("format", None) != FORMAT:
        raise UsageError(f"{path} is no parameter file of the generative model; expected format {FORMAT!r}")
    version = data.pop("version", None)
    if version != VERSION:
        raise UsageError(
            f"{path} has version {version}; this labctl reads version {VERSION}: fit the recorded data again"
        )
    known = {item.name for item in fields(GenerativeParams)}
    if set(data) != known:
        wrong = sorted(set(data) ^ known)
        raise UsageError(f"{path}: missing or unknown parameters {wrong}; expected {sorted(known)}")
    for name, part in (("gate", Gate), ("timing", Timing)):
        wanted = {item.name for item in fields(part)}
        if not isinstance(data[name], dict) or set(data[name]) != wanted:
            raise UsageError(f"{path}: {name} must hold {sorted(wanted)}, all of them and nothing else")
        data[name] = part(**data[name])
    params = GenerativeParams(**data)
    if order not in (None, params.order):
        raise UsageError(f"{path} holds a VAR of order {params.order}, not {order}; fit again with that order")
    return params


def _published(path: str | Path, data: dict[str, Any], order: int | None) -> GenerativeParams:
    orders = sorted(int(key[4:]) for key in data if key.startswith("VAR_") and key[4:].isdigit())
    if not orders or (order is not None and order not in orders):
        raise UsageError(f"{path} has no VAR of order {order}; it has {orders}")
    p = orders[-1] if order is None else order
    try:
        var = np.array(data[f"VAR_{p:03d}"], float).reshape(4, p + 1, 4).swapaxes(0, 1)
        means = np.array(data["μDtD"], float).T
        spreads = np.array(data["LDtD"], float).reshape(8, -1, 8).swapaxes(0, 1)
        return GenerativeParams(
            innovation=var[0],
            lags=var[:0:-1],  # stored as [L | A_p … A_1]
            gamma=data["γ"],
            weights=data["wk"],
            means=means,
            spreads=spreads,
            llrs=data["LLRS"],
            hhrs=data["HHRS"],
            u_read=data["U₀"],
            u_max=data["Umax"],
            eta=data["η"],
            provenance="Synaptogen's published parameters, Hennen et al., Front. Neurosci. 16:941753 (2022)",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is not a parameter file of Synaptogen: {error!r}") from error

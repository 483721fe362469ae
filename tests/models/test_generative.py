"""The generative model: statistics of the published parameters, and equality with PyPI `synaptogen`."""

from typing import Any

import numpy as np
import pytest
import synaptogen.synaptogen as theirs
from numba import njit
from numpy.typing import NDArray
from scipy.stats import kstest, skew

from labctl.models.generative import Generative
from labctl.models.generative_math import four_normals
from labctl.models.generative_params import load
from labctl.models.simd import LANES, counted, lane_of

from .generative_common import LONG, PUBLISHED, WIDE, acf, cycle


@pytest.fixture(scope="module")
def cycles() -> NDArray[np.float64]:
    """512 devices × 3,000 cycles from the published parameters."""
    cells = Generative((512,), PUBLISHED, seed=11)
    out = cycle(cells, 3000)
    assert (cells.cycles == 3000).all()
    return out


# mean, SD, D2D share, ACF at 1, 10, 50, skew of features from 512 × 6,000 generated cycles; tolerances: four standard
# errors of 512 devices for what devices decide (mean, SD, share, skew), 0.01 … 0.02 for what cycles decide (ACF)
TABLE = {
    0: (4.878, 0.203, 0.12, 0.132, 0.099, 0.001, 0.26),
    1: (-0.679, 0.078, 0.27, 0.171, 0.131, 0.005, -1.33),
    2: (4543.0, 267.0, 0.49, 0.494, 0.371, 0.077, 0.74),
    3: (0.735, 0.050, 0.40, 0.319, 0.278, 0.048, 0.80),
}
TOLERANCE = {
    0: (0.015, 0.02, 0.05, 0.01, 0.01, 0.01, 0.15),
    1: (0.008, 0.015, 0.12, 0.01, 0.01, 0.01, 0.9),
    2: (38.0, 50.0, 0.10, 0.015, 0.015, 0.02, 0.6),
    3: (0.007, 0.009, 0.12, 0.015, 0.015, 0.02, 0.7),
}


@pytest.mark.parametrize("f", TABLE)
def test_published_statistics(cycles: NDArray[np.float64], f: int) -> None:
    x = cycles[..., f]
    found = (x.mean(), x.std(), x.mean(0).var() / x.var(), acf(x, 1), acf(x, 10), acf(x, 50), skew(x.ravel()))
    for value, published, tolerance in zip(found, TABLE[f], TOLERANCE[f], strict=True):
        assert value == pytest.approx(published, abs=tolerance)


def test_published_correlations(cycles: NDArray[np.float64]) -> None:
    x = cycles - cycles.mean(0)
    within = np.einsum("tdi,tdj->dij", x, x)
    scale = np.sqrt(np.einsum("dii->di", within))
    within = (within / scale[:, :, None] / scale[:, None, :]).mean(0)
    assert within[0, 1] == pytest.approx(-0.227, abs=0.01)
    assert within[2, 3] == pytest.approx(0.185, abs=0.01)
    devices = np.asarray(np.corrcoef(np.median(cycles, 0).T))
    assert devices[2, 3] == pytest.approx(0.64, abs=0.12)  # 512 devices with outliers: standard error 0.03 … 0.04
    assert devices[1, 3] == pytest.approx(-0.65, abs=0.12)


def test_lag_order(cycles: NDArray[np.float64]) -> None:
    """Reading the stored lags from the wrong end is visible: LRS at lag 1 falls from 0.49 to 0.24 (latent: 0.25)."""
    params = load(PUBLISHED)
    right = params.autocovariance(1)[1, 2, 2] / params.autocovariance(0)[0, 2, 2]
    backwards = type(params)(**{**vars(params), "lags": params.lags[::-1]})
    wrong = backwards.autocovariance(1)[1, 2, 2] / backwards.autocovariance(0)[0, 2, 2]
    assert right == pytest.approx(0.508, abs=0.005)
    assert wrong < 0.35
    assert acf(cycles[..., 2], 1) == pytest.approx(0.494, abs=0.015)


def test_fresh_array_is_stationary() -> None:
    """The first cycles of many cells are distributed as later ones, with the theoretical joint covariance."""
    cells = Generative((20000,), PUBLISHED, seed=5)
    params = cells.params
    latent = cells._state.hist.reshape(-1, 10, LANES // 16, 4, 16).transpose(0, 2, 4, 1, 3).reshape(-1, 40)[:20000]
    # slot 9 is the newest: (x_n, x_n-1, …)
    x = latent.reshape(-1, 10, 4)[:, ::-1].reshape(-1, 40)
    assert np.cov(x.T) == pytest.approx(params.covariance(), abs=5 / np.sqrt(20000))  # five standard errors
    assert params.covariance().diagonal() == pytest.approx(np.ones(40), abs=0.01)
    for f in range(4):
        assert kstest(x[:, f] / params.covariance()[f, f] ** 0.5, "norm").pvalue > 1e-4
    first = cells.features
    later = first
    for _ in range(30):
        cells.write(1.5, 0.0, 3.0, LONG)
        cells.write(0.0, 1.5, 3.0, LONG)
        later = cells.features
    for f in range(4):
        early, late = (np.quantile(y[:, f], [0.05, 0.5, 0.95]) for y in (first, later))
        assert np.abs(early - late).max() < 0.02 * (early[2] - early[0])


def _of_cells(key: int, cells: int, counts: NDArray[np.uint32]) -> NDArray[np.float32]:
    out = np.empty((4, cells), np.float32)
    for i in range(cells):
        z0, z1, z2, z3 = four_normals(counted(np.uint32(i)), counts[i], 0, np.uint32(key), np.uint32(0))
        out[0, i], out[1, i], out[2, i], out[3, i] = lane_of(z0, 0), lane_of(z1, 0), lane_of(z2, 0), lane_of(z3, 0)
    return out


_draws: Any = njit(_of_cells)


@pytest.mark.parametrize("order", [1, 3, 10])
def test_equal_to_synaptogen_on_the_same_draws(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """State after SET, RESET and partial RESET: r within 1e-6, features within 1e-6 relative, same flags."""
    n = 1000
    ours = Generative((n,), load(PUBLISHED, order), seed=3)
    other = theirs.CellArrayCPU(n, theirs.load_params(str(PUBLISHED), order))
    state = ours._state
    ours.state()  # turns the rings: oldest first
    hist = state.hist.reshape(-1, order, LANES // 16, 4, 16).transpose(1, 3, 0, 2, 4).reshape(order, 4, -1)[..., :n]
    device = state.device.reshape(-1, LANES // 16, 8, 16).transpose(2, 0, 1, 3).reshape(8, -1)[:, :n]
    other.Xhat[4:] = hist.reshape(4 * order, n)  # oldest first, as theirs
    other.μ, other.σ = device[:4].copy(), device[4:].copy()
    other.y = theirs.Ψ(other.μ, other.σ, theirs.Γ(other.params.γ, other.Xhat[-4:]))
    other.UR = other.y[3].copy()
    other.r = theirs.r(other.y[0], other.params.G_HHRS, other.params.G_LLRS)
    other.inHRS[:] = True  # a fresh cell of ours is in its HRS; theirs is nowhere, and its first RESET is arbitrary

    def same_draws(size: tuple[int, int], out: NDArray[np.float32]) -> None:
        out[...] = _draws(3, n, ours.cycles)

    rng = np.random.default_rng(0)
    worst = 0.0
    for step in range(60):
        u = rng.uniform(-1.5, 1.5, n).astype(np.float32) if step % 3 else np.float32(1.5 * (-1) ** (step // 3))
        monkeypatch.setattr(theirs, "randn", same_draws)
        theirs.applyVoltage(other, u)  # before ours: the draws depend on the counts before the pulse
        before = ours.cycles
        ours.write(-np.asarray(u, np.float64), 0.0, 3.0, WIDE)
        flags = state.flags.reshape(-1)[:n]
        assert ((flags & 1) != 0).tolist() == other.inLRS.tolist()
        assert ((flags & 2) != 0).tolist() == other.inHRS.tolist()
        worst = max(worst, np.abs(state.ratio.reshape(-1)[:n] - other.r).max())
        y = ours.features
        assert (ours.cycles - before).max() <= 1
        y[:, 0], theirs_y = np.log10(y[:, 0]), other.y.T * [1, -1, 1, -1]
        theirs_y[:, 0] = np.log10(theirs_y[:, 0])
        assert y == pytest.approx(theirs_y, rel=1e-6, abs=1e-6)
        assert state.threshold.reshape(-1)[:n] == pytest.approx(other.UR, abs=1e-6)
    assert worst < 1e-6
    assert ours.cycles.max() > 5
    current = ours.read(-0.2, 0.0, 3.0, 0.0)
    assert -current == pytest.approx(theirs.I(other, np.float32(0.2)), rel=1e-5)


@pytest.mark.parametrize("order", [1, 3, 10])
def test_cycles_obey_the_autoregression(order: int) -> None:
    """35 cycles, each cell skipping some of its own: features are those of x_n = L e_n + sum A_i x_{n-i} in float64."""
    n, cycles = 100, 35
    params = load(PUBLISHED, order)
    ours = Generative((n,), params, seed=8)
    latent = ours._state.hist.reshape(-1, order, LANES // 16, 4, 16).transpose(1, 3, 0, 2, 4).reshape(order, 4, -1)
    past = list(latent[..., :n].astype(float))  # of a fresh array: oldest first
    device = ours._state.device.reshape(-1, 8, 16).transpose(1, 0, 2).reshape(8, -1)[:, :n].astype(float)
    y = np.empty((cycles, 4, n))
    for k in range(cycles):
        x = params.innovation @ _draws(8, n, np.full(n, k, np.uint32)).astype(float)
        past.append(x + sum(params.lags[i] @ past[-1 - i] for i in range(order)))
        gamma = np.array([np.polyval(params.gamma[f], past[-1][f]) for f in range(4)])
        y[k] = device[:4] + device[4:] * gamma
    rng = np.random.default_rng(1)
    cell = np.arange(n)
    while ours.cycles.min() < cycles:
        some = cell[(rng.random(n) < 0.7) & (ours.cycles < cycles)]
        if not len(some):
            continue
        ours.write(1.5, 0.0, 3.0, LONG, some)
        ours.write(0.0, 1.5, 3.0, LONG, some)
        got = ours.features[some] * [1, -1, 1, -1]
        got[:, 0] = np.log10(got[:, 0])
        assert got == pytest.approx(y[ours.cycles[some] - 1, :, some], rel=2e-6, abs=2e-6)


def test_numbers_are_normal() -> None:
    z = _draws(9, 100000, np.zeros(100000, np.uint32)).astype(float)
    assert np.abs(z.mean(1)).max() < 5 / np.sqrt(100000)
    assert np.cov(z) == pytest.approx(np.eye(4), abs=5 * np.sqrt(2 / 100000))
    for row in z:
        assert kstest(row, "norm").pvalue > 1e-4
    assert np.abs(z).max() > 3.9


def test_read_noise_and_no_hidden_change() -> None:
    """Variance 4 kT BW |I/U| + 2 e BW |I| within 5 standard errors; the caller's array and the state stay."""
    cells = Generative((256,), PUBLISHED, seed=2)
    u = np.zeros(256)
    u[128:] = 0.2
    given = u.copy()
    before = cells.state()
    clean = cells.read(u, 0.0, 3.0, 0.0)
    many = np.array([cells.read(u, 0.0, 3.0, 1e8) for _ in range(4000)])
    assert (u == given).all()
    after = cells.state()
    assert all(np.array_equal(before[k], after[k]) for k in before if k != "reads")
    g = np.abs(cells.read(0.01, 0.0, 3.0, 0.0)) / 0.01
    wanted = 1e8 * (4 * 1.380649e-23 * 300 * g + 2 * 1.602176634e-19 * np.abs(clean))
    wanted[128:] = 1e8 * (4 * 1.380649e-23 * 300 / 0.2 + 2 * 1.602176634e-19) * np.abs(clean[128:])
    assert many.var(0) / wanted == pytest.approx(np.ones(256), abs=5 * np.sqrt(2 / 4000))
    assert (many.mean(0) - clean) / np.sqrt(wanted / 4000) == pytest.approx(np.zeros(256), abs=5)
    assert np.abs(clean[:128]).max() < 1e-15
    shape = (many - clean) / np.sqrt(wanted)
    assert kstest(shape.ravel()[::7], "norm").pvalue > 1e-4

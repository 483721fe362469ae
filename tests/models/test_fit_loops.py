"""Features read off I–V loops, against loops of the generative model, whose features are known."""

import numpy as np
import pytest

from labctl.analysis.loops import reset_transitions, set_reset_features, state_curves
from labctl.errors import UsageError
from labctl.models.generative import Generative
from labctl.models.generative_params import load

from .generative_common import PUBLISHED

PARAMS = load(PUBLISHED)
DOWN = np.concatenate([np.linspace(0, 1.5, 151), np.linspace(1.49, -1.5, 300), np.linspace(-1.49, 0, 150)])


def loops(cells: int, cycles: int, seed: int, start: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """v (n,), i (n, cells), cycle (n,), features (cycles, cells, 4) of triangular loops at the reference width."""
    model = Generative((cells,), PARAMS, seed=seed)
    v = np.roll(DOWN[:-1], -start)
    features, currents = np.empty((cycles, cells, 4)), []
    for n in range(cycles):
        features[n] = model.features
        currents.append([model.pulse(max(x, 0.0), max(-x, 0.0), 3.0, PARAMS.timing.width) for x in v])
    i = np.concatenate(currents)
    return np.tile(v, cycles), i, np.repeat(np.arange(cycles) + 5, len(v)), features


@pytest.fixture(scope="module")
def recorded() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return loops(20, 3, seed=1)


def test_features_of_known_loops(recorded: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Voltages within the 10 mV step; R within 5 % (declared at −0.2 V, read at +0.2 V: the curves are asymmetric)."""
    v, i, cycle, known = recorded
    for cell in range(20):
        found = set_reset_features(v, i[:, cell], cycle)
        assert found.cycle.tolist() == [5, 6, 7]
        assert found.v_set == pytest.approx(known[:, cell, 1], abs=0.0101)
        assert found.v_reset == pytest.approx(known[:, cell, 3], abs=0.0101)
        assert found.r_lrs == pytest.approx(known[:, cell, 2], rel=0.05)
        assert found.r_hrs == pytest.approx(known[:, cell, 0], rel=0.1)
        assert found.table().shape == (3, 4)


def test_noise_and_offset_start_do_not_matter() -> None:
    v, i, cycle, known = loops(4, 2, seed=3, start=-10)
    rng = np.random.default_rng(0)
    for cell in range(4):
        found = set_reset_features(v, i[:, cell] + rng.normal(0, 0.3e-6, len(v)), cycle)
        assert found.v_set == pytest.approx(known[:, cell, 1], abs=0.0101)
        assert found.v_reset == pytest.approx(known[:, cell, 3], abs=0.03)
        assert found.r_lrs == pytest.approx(known[:, cell, 2], rel=0.1)


def test_what_is_missing_is_nan() -> None:
    v = np.concatenate([np.linspace(0, 1, 50), np.linspace(1, 0, 50)])
    linear = set_reset_features(v, v / 1e4, np.zeros(100, int))
    assert linear.r_hrs == pytest.approx([1e4])
    assert linear.r_lrs == pytest.approx([1e4])
    assert np.isnan(linear.v_set).all()  # it did not switch
    assert np.isnan(linear.v_reset).all()
    short = set_reset_features(v / 10, v / 1e4, np.zeros(100, int))
    assert np.isnan(short.table()).all()
    with pytest.raises(UsageError, match="no loop"):
        state_curves(v, v / 1e4, np.zeros(100, int))


def test_curves_lie_on_the_states(recorded: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Each sample, of both polarities, is on the model's I–V curve of the state whose G at +0.2 V it carries."""
    v, i, cycle, _ = recorded
    curves = state_curves(v, i[:, 0], cycle)
    assert len(curves.v) > 1000
    assert (curves.v < 0).sum() > 400
    g_l, g_h = (np.polyval(c, -0.2) / -0.2 for c in (PARAMS.llrs, PARAMS.hhrs))
    r = (g_l - curves.g) / (g_l - g_h)
    expected = -((1 - r) * np.polyval(PARAMS.llrs, -curves.v) + r * np.polyval(PARAMS.hhrs, -curves.v))
    assert curves.i == pytest.approx(expected, abs=2e-8)


def test_transitions_lie_on_the_law(recorded: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> None:
    """From the start to -u_max, the current less its end goes as |u_max - U|**eta within 2 %."""
    v, i, cycle, _ = recorded
    way = reset_transitions(v, i[:, 3], cycle)
    for start in np.unique(way.start):
        x, y = -way.v[way.start == start], -way.i[way.start == start]
        end = np.interp(PARAMS.u_max, x, y)
        use = (x > -start + 0.05) & (x < 1.2)
        slope = np.polyfit(np.log(PARAMS.u_max - x[use]), np.log(y[use] - end), 1)[0]
        assert slope == pytest.approx(PARAMS.eta, rel=0.02)


@pytest.mark.parametrize(
    ("v", "i", "cycle", "v_read"),
    [
        ([0.0, 1.0], [0.0], [0, 0], 0.2),
        ([[0.0, 1.0]], [[0.0, 1.0]], [[0, 0]], 0.2),
        ([], [], np.array([], int), 0.2),
        ([0.0, float("nan")], [0.0, 1.0], [0, 0], 0.2),
        ([0.0, 1.0], [0.0, float("inf")], [0, 0], 0.2),
        ([0.0, 1.0], [0.0, 1.0], [0.0, 0.0], 0.2),
        ([0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0, 1, 0], 0.2),
        ([0.0, 1.0], [0.0, 1.0], [0, 0], -0.2),
    ],
)
def test_bad_loops(v: list[float], i: list[float], cycle: list[int], v_read: float) -> None:
    with pytest.raises(UsageError):
        set_reset_features(v, i, cycle, v_read)

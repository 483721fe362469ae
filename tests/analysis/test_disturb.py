"""Disturb statistics: found where cells are moved, not found where they only relax."""

import numpy as np
import pytest

from labctl.analysis.disturb import disturb, holm, shift
from labctl.errors import UsageError

COUNT = np.array([0, 10, 100, 1e3, 1e4, 1e5, 1e6])


def cells(rng: np.random.Generator, n: int, a_decade: float, noise: float = 0.2) -> np.ndarray:
    """µS: a common slope a decade, scatter of slopes 0.05, reading noise."""
    slopes = rng.normal(a_decade, 0.05, n)
    return np.asarray(50 + slopes[:, None] * np.log10(1 + COUNT) + rng.normal(0, noise, (n, len(COUNT))))


def test_a_slope_and_its_interval() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        found = disturb(COUNT, cells(rng, 25, 0.1))
        inside += found.slope.low < 0.1 < found.slope.high
    assert inside / 200 == pytest.approx(0.95, abs=0.05)
    assert found.p < 1e-3


def test_the_same_relaxation_in_a_control_is_no_disturb_and_more_is() -> None:
    rng = np.random.default_rng(2)
    p = np.array([disturb(COUNT, cells(rng, 30, 0.2), cells(rng, 20, 0.2)).p for _ in range(200)])
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.045)
    inside = 0
    for _ in range(100):
        found = disturb(COUNT, cells(rng, 30, 0.3), cells(rng, 20, 0.2))
        inside += found.slope.low < 0.1 < found.slope.high
        assert found.p < 0.01
    assert inside / 100 == pytest.approx(0.95, abs=0.06)
    assert found.moved > 3


def test_a_few_moved_cells_are_counted_and_none_are_where_none_moved() -> None:
    rng = np.random.default_rng(3)
    still = 50 + rng.normal(0, 0.2, (200, len(COUNT)))
    assert disturb(COUNT, still).moved <= 1
    still[:5] += 3 * np.log10(1 + COUNT)
    assert disturb(COUNT, still).moved in (5, 6)


def test_the_shift_at_each_reading() -> None:
    rng = np.random.default_rng(4)
    g = 50 + rng.normal(0, 0.1, (60, len(COUNT)))
    g[:, -1] -= 1.0
    g[0, 2] = np.nan
    found = shift(COUNT, g)
    assert found.mean[-1] == pytest.approx(-1.0, abs=0.1)
    assert found.low[-1] < -1 < found.high[-1]
    assert found.n.tolist() == [60, 60, 59, 60, 60, 60, 60]
    assert np.isnan(found.p[0])
    assert found.p[-1] < 1e-6
    assert found.p[1:-1].min() > 0.01
    assert shift([0, 1], [[1.0, 1.0], [2.0, 2.0]]).p[1] == 1.0


def test_holm_is_the_published_correction() -> None:
    assert holm([0.01, 0.04, 0.03, np.nan, 0.005])[[0, 1, 2, 4]] == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_input_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="rise"):
        shift([0, 0], [[1.0, 1.0]])
    with pytest.raises(UsageError, match="shape"):
        shift([0, 1], [1.0, 1.0])
    with pytest.raises(UsageError, match="control has 1 cells"):
        disturb([0, 1, 2], np.random.default_rng(0).random((3, 3)), [[1.0, 2.0, 3.0]])

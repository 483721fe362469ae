"""The generative model in use: any subset, gate, width, time, defects, saving, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import UsageError
from labctl.models.effects import Defects, Effects
from labctl.models.generative import Generative, generate_cycles
from labctl.models.generative_params import GenerativeParams, load

from .generative_common import PUBLISHED, WIDE

PARAMS = load(PUBLISHED)
QUIET = Effects(read_noise=0.0)


def same(a: Generative, b: Generative) -> bool:
    one, two = a.state(), b.state()
    return all(np.array_equal(one[k], two[k]) for k in one)


def lrs(n: int = 300, **kwargs: object) -> Generative:
    """An array in the LRS, by 1 ms at 1.5 V so that no cell is missed."""
    cells = Generative((n,), PARAMS, seed=4, **kwargs)  # type: ignore[arg-type]
    cells.write(1.5, 0.0, 3.0, 1e9)
    return cells


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 400), st.integers(0, 2**63 - 1), st.data())
def test_order_grouping_and_threads_change_nothing(n: int, seed: int, data: st.DataObject) -> None:
    """The same bits for the whole array at once, for random parts in random order, and for any number of threads."""
    whole = Generative((n,), PARAMS, seed=seed, threads=1)
    parts = Generative((n,), PARAMS, seed=seed, threads=3)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    for _ in range(12):
        v = np.where(rng.random(n) < 0.5, rng.uniform(-1.5, 1.5, n), rng.choice([-1.5, 1.5]))
        v_wl = rng.uniform(0.8, 2.0, n)
        current = whole.pulse(v, 0.0, v_wl, WIDE)
        for cells in np.array_split(rng.permutation(n), rng.integers(1, 5)):
            if len(cells):
                assert np.array_equal(parts.pulse(v[cells], 0.0, v_wl[cells], WIDE, cells), current[cells])
        assert same(whole, parts)
    assert np.array_equal(whole.read(-0.2, 0.0, 3.0, 1e8), parts.read(-0.2, 0.0, 3.0, 1e8))
    cells = rng.permutation(n)[: n // 2 + 1]
    assert np.array_equal(whole.read(-0.2, 0.0, 3.0, 1e8)[cells], parts.read(-0.2, 0.0, 3.0, 1e8, cells))


def test_generated_cycles_are_those_of_pulses() -> None:
    cells = lrs(200)
    out = generate_cycles(PARAMS, 200, 12, seed=4)
    for n in range(12):
        cells.write(0.0, 1.5, 3.0, 1e9)
        assert np.array_equal(cells.features, out[:, n])
        cells.write(1.5, 0.0, 3.0, 1e9)
    with pytest.raises(UsageError):
        generate_cycles(PARAMS, 0, 5)


def test_many_threads_on_a_large_array() -> None:
    a, b = Generative((70000,), PARAMS, seed=1, threads=1), Generative((70000,), PARAMS, seed=1, threads=7)
    for v in (1.5, -1.5, 1.5, -1.1, -1.3):
        a.write(v, 0.0, 3.0, WIDE)
        b.write(v, 0.0, 3.0, WIDE)
    assert same(a, b)


def test_signs_and_states() -> None:
    """A SET drives BL above SL, its current is positive; a RESET the other way; a fresh positive RESET does nothing."""
    cells = Generative((400,), PARAMS, seed=7)
    fresh = cells.read(0.2, 0.0, 3.0, 0.0)
    hrs = cells.features[:, 0]
    assert 0.2 / cells.read(0.0, 0.2, 3.0, 0.0) == pytest.approx(-hrs, rel=1e-4)  # R is declared at U = +0.2 V
    assert (np.abs(cells.pulse(0.0, 1.5, 3.0, WIDE)) < 1e-3).all()  # published: up to 551 A
    assert np.array_equal(cells.read(0.2, 0.0, 3.0, 0.0), fresh)
    current = cells.pulse(1.5, 0.0, 3.0, 1e9)
    assert (current > 100e-6).all()
    assert 0.2 / cells.read(0.0, 0.2, 3.0, 0.0) == pytest.approx(-cells.features[:, 2], rel=1e-4)


def test_partial_reset_is_gradual_and_remembers_its_depth() -> None:
    cells = lrs()
    r = []
    for v in np.arange(0.5, 1.46, 0.05):
        cells.write(0.0, v, 3.0, WIDE)
        r.append(-0.2 / cells.read(0.0, 0.2, 3.0, 0.0))
        cells.write(0.0, v - 0.1, 3.0, WIDE)  # a weaker pulse finds nothing left to do
        assert np.array_equal(r[-1], -0.2 / cells.read(0.0, 0.2, 3.0, 0.0))
    medians = np.median(r, 1)
    assert (np.diff(medians) >= 0).all()
    steps = np.count_nonzero(np.diff(medians) > 0.02 * medians[:-1])
    assert steps >= 8
    cells.write(0.0, 1.46, 3.0, WIDE)
    assert -0.2 / cells.read(0.0, 0.2, 3.0, 0.0) == pytest.approx(cells.features[:, 0], rel=1e-4)


@pytest.mark.parametrize("width", [1e-9, 1e-8, 1e-6, 1e-3, 1.0])
def test_threshold_moves_with_log_width(width: float) -> None:
    """|V_th|(w) = beta log10(1 + (10**(V_th/beta) - 1) w0/w): a step of 0.1 mV below switches nothing, above all."""
    cells = Generative((300,), PARAMS, seed=6)
    timing = PARAMS.timing

    def moved(v: np.ndarray, beta: float) -> np.ndarray:
        return beta * np.log10(1 + (10 ** (v / beta) - 1) * timing.width / width)

    v_set = moved(cells.features[:, 1], timing.beta_set)
    decades = np.log10(width / timing.width)  # where 10**(V/beta) is large, the law is a straight line
    assert v_set == pytest.approx(cells.features[:, 1] - timing.beta_set * decades, abs=2e-3)
    ok = v_set < 1.49
    assert ok.sum() > 200
    before = cells.read(0.2, 0.0, 3.0, 0.0)
    cells.write(np.where(ok, v_set - 1e-4, 0.0), 0.0, 3.0, width)
    assert np.array_equal(cells.read(0.2, 0.0, 3.0, 0.0), before)
    cells.write(np.where(ok, v_set + 1e-4, 0.0), 0.0, 3.0, width)
    r = 0.2 / -cells.read(0.0, 0.2, 3.0, 0.0)
    assert r[ok] == pytest.approx(cells.features[ok, 2], rel=1e-4)
    assert (cells.read(0.2, 0.0, 3.0, 0.0) != before)[ok].all()
    v_reset = moved(-cells.features[:, 3], timing.beta_reset)
    ok &= v_reset < 1.49
    cells.write(0.0, np.where(ok, v_reset - 1e-4, 0.0), 3.0, width)
    assert (cells.cycles == 0).all()
    cells.write(0.0, np.where(ok, v_reset + 1e-4, 0.0), 3.0, width)
    assert (cells.cycles == 1)[ok].all()


def test_waveform_does_not_depend_on_its_sampling() -> None:
    """A staircase of 20 or of 400 samples of the same shape switches the same cells at the same time."""
    results = []
    for n in (20, 400):
        cells = Generative((200,), PARAMS, seed=8)
        t = np.linspace(0, 1e-3, n, endpoint=False)
        v = 0.9 * np.ones(n)
        cells.waveform(np.append(t, 1e-3), np.append(v, 0.0), 0.0, 3.0)
        results.append(cells.read(0.2, 0.0, 3.0, 0.0))
    one = Generative((200,), PARAMS, seed=8)
    one.write(0.9, 0.0, 3.0, 1e-3)
    assert np.array_equal(results[0], one.read(0.2, 0.0, 3.0, 0.0))
    assert (results[1] == results[0]).mean() > 0.99  # 1 % of stress is 0.26 mV: a cell in 200 at most
    ramp = []
    for n in (500, 4000):
        cells = Generative((200,), PARAMS, seed=8)
        t = np.linspace(0, 1e-3, n)
        out = cells.waveform(t, 1.5 * np.sin(np.pi * t / 1e-3) ** 2, 0.0, 3.0)
        jump = np.argmax(out > 0.9 * out.max(), axis=0)
        ramp.append(t[jump])
        assert (cells.read(-0.2, 0.0, 3.0, 0.0) < -20e-6).mean() > 0.99
    assert np.abs(ramp[0] - ramp[1]).max() < 3 * 1e-3 / 500


def test_waveform_loops_show_set_and_reset() -> None:
    cells = Generative((64,), PARAMS, seed=9)
    v = np.concatenate([np.linspace(0, 1.5, 150), np.linspace(1.5, -1.5, 300), np.linspace(-1.5, 0, 150)])
    out = cells.waveform(np.arange(600) * WIDE, np.maximum(v, 0), np.maximum(-v, 0), 3.0)
    assert out.shape == (600, 64)
    assert (cells.cycles == 1).mean() > 0.98
    up, down = out[60], out[240]  # about 0.6 V before and after the SET
    assert np.median(down / up) > 3


def test_gate_limits_set_reset_and_current() -> None:
    gate = PARAMS.gate
    n = 500
    over = np.linspace(0.25, 0.7, n)
    cells = Generative((n,), PARAMS, seed=3)
    i_sat = 0.5 * gate.k * over**2
    current = cells.pulse(1.2, 0.0, gate.v_t + over, WIDE)
    assert (current <= i_sat * (1 + 1e-5)).all()
    r = 0.2 / -cells.read(0.0, 0.2, 3.0, 0.0)
    switched = r < 0.5 * cells.features[:, 0]
    low = switched & (i_sat < 120e-6)
    assert low.sum() > 100
    assert current[low] == pytest.approx(i_sat[low], rel=1e-4)  # the SET stops at the compliance
    assert np.corrcoef(np.log(r[low]), np.log(i_sat[low]))[0, 1] < -0.95
    again = Generative((n,), PARAMS, seed=3)  # a wider gate later goes on from there
    again.write(1.2, 0.0, gate.v_t + 0.4, WIDE)
    again.write(1.2, 0.0, 3.0, WIDE)
    full = Generative((n,), PARAMS, seed=3)
    full.write(1.2, 0.0, 3.0, WIDE)
    assert np.array_equal(again._state.ratio, full._state.ratio)
    closed = lrs(n)
    before = closed.state()
    assert (closed.pulse(0.0, 1.5, 0.0, WIDE) == 0).all()
    closed.write(0.0, 1.5, gate.v_t + 0.2, WIDE)  # 20 µA: far less than an LRS draws at its threshold
    assert all(np.array_equal(before[k], v) for k, v in closed.state().items())
    assert (closed.read(1.0, 0.0, gate.v_t, 1e6) == 0).all()


def test_pulses_on_one_cell_are_that_many_calls() -> None:
    v = np.array([1.2, 0.1, -1.0, -1.2, -1.5, 1.5, -0.3])
    widths = np.array([1e-6, 0.0, 1e-5, 1e-7, 1e-6, 1e-3, 0.0])
    for effects in (None, QUIET):
        a, b = (Generative((300,), PARAMS, seed=3, effects=effects) for _ in range(2))
        listed = a.pulses(np.maximum(v, 0), np.maximum(-v, 0), 3.0, widths, 207)
        single = [
            b.pulse(max(x, 0.0), max(-x, 0.0), 3.0, w, np.array([207]))[0] for x, w in zip(v, widths, strict=True)
        ]
        assert np.array_equal(listed, single)
        assert same(a, b)


def test_relaxation_follows_the_shared_law() -> None:
    """Spread of the factor on G grows from 1 ms to 1e4 s, starts anew with a write, and the state itself stays."""
    cells = lrs(4000, effects=Effects(retention=0.0, rtn=0.0, rtn_traps=0, read_noise=0.0))
    start = cells.read(0.0, 0.2, 3.0, 0.0)
    ratio = cells._state.ratio.copy()
    sds = []
    for seconds in (1e-2, 0.99, 1e4):
        cells.wait(seconds)
        sds.append(np.std(cells.read(0.0, 0.2, 3.0, 0.0) - start) / 0.2)
    assert sds[0] < sds[1] < sds[2]
    assert sds[2] / sds[0] == pytest.approx(7.8 / 2.3, rel=0.25)  # recorded: 2.3 µS at 10 ms, 7.8 µS at 1e4 s
    assert np.array_equal(ratio, cells._state.ratio)
    cells.write(0.0, 1.5, 3.0, 1e3)
    cells.write(1.5, 0.0, 3.0, 1e9)
    clean = 0.2 / cells.features[:, 2]
    assert -cells.read(0.0, 0.2, 3.0, 0.0) == pytest.approx(clean, rel=1e-3)


def test_retention_rtn_and_wear() -> None:
    hot = lrs(1000, effects=Effects(relaxation=0.0, rtn=0.0, read_noise=0.0, endurance_life=1e18))
    start = hot.read(0.0, 0.2, 3.0, 0.0)
    hot.wait(3.2e8, 300.0)
    cool = np.median(np.abs(np.log(hot.read(0.0, 0.2, 3.0, 0.0) / start)))
    hot.wait(3.2e8, 358.0)
    assert np.median(np.abs(np.log(hot.read(0.0, 0.2, 3.0, 0.0) / start))) > 5 * cool > 0
    rtn = lrs(300, effects=Effects(relaxation=0.0, retention=0.0, read_noise=0.0, endurance_life=1e18))
    trace = []
    for _ in range(60):
        rtn.wait(0.1)
        trace.append(rtn.read(0.0, 0.2, 3.0, 1e6))
    levels = np.array([len(np.unique(np.round(row / row.mean(), 4))) for row in np.array(trace).T])
    assert 2 <= np.median(levels) <= 8  # three traps: at most eight levels
    worn = Effects(relaxation=0.0, retention=0.0, rtn=0.0, read_noise=0.0, endurance_life=50.0)
    windows = []
    cells = Generative((1000,), PARAMS, seed=1, effects=worn)
    for _ in range(3):
        on = np.median(cells.pulse(1.5, 0.0, 3.0, 1e9))
        on = np.median(-cells.read(0.0, 0.2, 3.0, 0.0))
        cells.write(0.0, 1.5, 3.0, 1e9)
        windows.append(on / np.median(-cells.read(0.0, 0.2, 3.0, 0.0)))
        for _ in range(50):
            cells.write(1.5, 0.0, 3.0, 1e9)
            cells.write(0.0, 1.5, 3.0, 1e9)
    assert windows[0] > 1.5 * windows[1] > 1.5 * windows[2] > 1.5


def test_time_is_the_same_in_one_wait_or_two_and_passes_in_pulses() -> None:
    a, b, c = (lrs(200, effects=QUIET) for _ in range(3))
    a.wait(2.0)
    b.wait(0.5)
    b.wait(1.5)
    assert np.array_equal(a.read(0.2, 0.0, 3.0, 0.0), b.read(0.2, 0.0, 3.0, 0.0))
    c.write(0.0, 0.0, 3.0, 2.0, np.arange(100))  # a hold at 0 V ages the cells it holds, and only those
    after = c.read(0.2, 0.0, 3.0, 0.0)
    assert after[:100] == pytest.approx(a.read(0.2, 0.0, 3.0, 0.0)[:100], rel=1e-5)
    assert after[100:] == pytest.approx(lrs(200, effects=QUIET).read(0.2, 0.0, 3.0, 0.0)[100:], rel=1e-5)


def test_defects() -> None:
    defects = Defects(stuck_cells=[3], shorted_cells=[4], open_cells=[5], never_forming_cells=[6])
    cells = Generative((8,), PARAMS, seed=1, defects=defects)
    stuck = cells.read(0.2, 0.0, 3.0, 0.0)[3]
    current = cells.pulse(1.5, 0.0, 3.0, 1e9)
    after = cells.read(0.2, 0.0, 3.0, 0.0)
    assert after[3] == stuck
    assert after[4] == pytest.approx(0.2 / 500)
    assert current[4] == pytest.approx(1.5 / 500)
    assert (after[5:7] == 0).all()
    assert (after[[0, 1, 2, 7]] > 2 * stuck).all()
    assert np.std([cells.read(0.2, 0.0, 3.0, 1e8)[4] for _ in range(200)]) > 0


def test_memory() -> None:
    assert Generative((2**14,), PARAMS).bytes_a_cell <= 240
    assert Generative((2**14,), PARAMS, effects=Effects()).bytes_a_cell <= 240


def test_state_comes_back() -> None:
    a, b = (Generative((6, 50), PARAMS, seed=s, effects=QUIET) for s in (1, 2))
    a.write(1.5, 0.0, 3.0, WIDE)
    a.wait(5.0)
    a.write(0.0, 1.2, 3.0, WIDE, np.arange(7, 200))
    b.restore(a.state())
    for cells in (a, b):
        cells.write(1.3, 0.0, 3.0, WIDE)
    assert same(a, b)
    assert np.array_equal(a.read(0.2, 0.0, 3.0, 1e6), b.read(0.2, 0.0, 3.0, 1e6))
    good = b.state()
    for key, value in {
        "format": np.array(b"labctl.filament.1"),
        "ratio": good["ratio"][:1],
        "hist": np.full_like(good["hist"], np.nan),
        "shape": np.array([50, 6]),
        "count": good["count"].astype(float),
    }.items():
        with pytest.raises(UsageError):
            b.restore({**good, key: value})
        assert all(np.array_equal(v, good[k]) for k, v in b.state().items())
    with pytest.raises(UsageError, match="needs"):
        b.restore({})
    with pytest.raises(UsageError, match="order"):
        Generative((6, 50), load(PUBLISHED, 3), effects=QUIET).restore(good)


NAN, INF = float("nan"), float("inf")
BAD = [
    lambda c: c.pulse(NAN, 0.0, 3.0, WIDE),
    lambda c: c.pulse(0.0, 0.0, NAN, WIDE),
    lambda c: c.pulse(INF, 0.0, 3.0, WIDE),
    lambda c: c.pulse(1.6, 0.0, 3.0, WIDE),
    lambda c: c.pulse(1.0, 0.0, 3.0, -1e-6),
    lambda c: c.pulse(1.0, 0.0, 3.0, NAN),
    lambda c: c.pulse("a", 0.0, 3.0, WIDE),
    lambda c: c.pulse(1.0, 0.0, 3.0, "b"),
    lambda c: c.pulse(np.ones(3), 0.0, 3.0, WIDE),
    lambda c: c.pulse(np.ones((6, 50)), 0.0, 3.0, WIDE),
    lambda c: c.pulse(1.0, 0.0, np.ones(3), WIDE),
    lambda c: c.pulse(1.0, 0.0, 3.0, WIDE, np.array([0, 0])),
    lambda c: c.pulse(1.0, 0.0, 3.0, WIDE, np.array([300])),
    lambda c: c.pulse(1.0, 0.0, 3.0, WIDE, np.array([-1])),
    lambda c: c.pulse(1.0, 0.0, 3.0, WIDE, np.array([0.5])),
    lambda c: c.pulse(np.append(np.ones(299), NAN), 0.0, 3.0, WIDE),
    lambda c: c.write(0.0, np.append(np.ones(299), 9.0), 3.0, WIDE),
    lambda c: c.waveform([0.0, 1e-6, NAN], 1.0, 0.0, 3.0),
    lambda c: c.waveform([0.0, 1e-6, 5e-7], 1.0, 0.0, 3.0),
    lambda c: c.waveform([], 1.0, 0.0, 3.0),
    lambda c: c.waveform([0.0, 1e-6], [1.5, 1.0, 2.0], 0.0, 3.0),
    lambda c: c.waveform([0.0, 1e-6], [1.5, 2.0], 0.0, 3.0),
    lambda c: c.waveform([0.0, 1e-6], np.ones((2, 7)), 0.0, 3.0),
    lambda c: c.pulses([1.5, NAN], 0.0, 3.0, WIDE, 0),
    lambda c: c.pulses([1.5, 1.5], 0.0, 3.0, [WIDE, -WIDE], 0),
    lambda c: c.pulses([1.5, 1.5], 0.0, [1.0, 2.0, 3.0], WIDE, 0),
    lambda c: c.pulses([1.5], 0.0, 3.0, WIDE, 300),
    lambda c: c.read(0.2, 0.0, 3.0, -1.0),
    lambda c: c.read(0.2, 0.0, 3.0, NAN),
    lambda c: c.read(NAN, 0.0, 3.0, 0.0),
    lambda c: c.read(0.2, 0.0, 3.0, 0.0, out=np.empty(3)),
    lambda c: c.wait(-1.0),
    lambda c: c.wait(NAN),
    lambda c: c.wait(1.0, NAN),
    lambda c: c.wait(1.0, 20.0),
]


@pytest.mark.parametrize("call", BAD)
def test_bad_input_is_refused_and_changes_nothing(call: object) -> None:
    cells = Generative((6, 50), PARAMS, seed=1, effects=QUIET)
    before = cells.state()
    with pytest.raises(UsageError):
        call(cells)  # type: ignore[operator]
    assert all(np.array_equal(before[k], v) for k, v in cells.state().items())


@pytest.mark.parametrize(
    "given",
    [{"shape": (0,)}, {"shape": ()}, {"shape": (2.5,)}, {"seed": -1}, {"seed": 2**63}, {"seed": 0.5}, {"threads": 0},
     {"temperature": NAN}, {"params": "/no/such/file.json"}],
)  # fmt: skip
def test_bad_construction(given: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Generative(**{"shape": (4,), "params": PARAMS, **given})  # type: ignore[arg-type]


def test_files(tmp_path: Path) -> None:
    """Ours comes back equal; another version, a damaged file and a missing order are named."""
    path = tmp_path / "p.json"
    PARAMS.save(path)
    back = load(path)
    for name, value in vars(PARAMS).items():
        assert (
            np.array_equal(getattr(back, name), value)
            if isinstance(value, np.ndarray)
            else getattr(back, name) == value
        )
    assert [load(PUBLISHED, p).order for p in range(1, 11)] == list(range(1, 11))
    data = json.loads(path.read_text())
    wrong = {
        "version": {**data, "version": 2},
        "format": {**data, "format": "x"},
        "missing or unknown": {k: v for k, v in data.items() if k != "eta"},
        "NaN": {**data, "gamma": [[NAN] * 5] * 4},
        "shape": {**data, "innovation": [[1.0]]},
        "not stationary": {**data, "lags": (np.array(data["lags"]) * 9).tolist()},
        "u_max": {**data, "u_max": -1.0},
        "timing": {**data, "timing": {"width": 1e-6}},
    }
    for match, content in wrong.items():
        path.write_text(json.dumps(content))
        with pytest.raises(UsageError, match=match):
            load(path)
    path.write_text("{")
    with pytest.raises(UsageError, match="JSON"):
        load(path)
    path.write_text("[1]")
    with pytest.raises(UsageError, match="no parameters"):
        load(path)
    with pytest.raises(UsageError, match="order"):
        load(PUBLISHED, 11)
    published = json.loads(PUBLISHED.read_text())
    del published["γ"][0]
    path.write_text(json.dumps(published))
    with pytest.raises(UsageError, match="gamma"):
        load(path)


def test_default_file() -> None:
    """Says where it is from, and is the published chip as a read at +0.2 V sees it (medians within 4 %)."""
    cells = Generative((40, 50), seed=1)
    assert "Fitted by labctl" in cells.params.provenance
    assert "assumed" in cells.params.provenance
    r_hrs, v_set, r_lrs, v_reset = np.median(cells.features, axis=0)
    assert (r_hrs, v_set, r_lrs, v_reset) == pytest.approx((7.54e4, 0.667, 4683.0, -0.729), rel=0.04)
    cells.write(1.5, 0.0, 3.0, 1e9)
    assert 0.2 / cells.read(0.2, 0.0, 3.0, 0.0) == pytest.approx(cells.features[:, 2], rel=1e-4)


def test_parameters_refuse_a_curve_of_too_high_degree() -> None:
    with pytest.raises(UsageError, match="coefficients"):
        GenerativeParams(**{**vars(PARAMS), "llrs": np.ones(9)})

"""f–I curve through the whole chain: board, chip, counter. Targets: Garg et al., Fig. 4A and 4D."""

from pathlib import Path

import numpy as np
import pytest

import labctl
from drivers.bench import Bench
from labctl.errors import LimitError, UsageError
from labctl.replay import verify
from protocols.lif_fi_curve import lif_fi_curve


@pytest.fixture(scope="module")
def fi(tmp_path_factory: pytest.TempPathFactory) -> labctl.Run:
    with labctl.open_bench("sim", seed=1) as bench:
        out = tmp_path_factory.mktemp("fi") / "fi.h5"
        return labctl.run("lif_fi_curve", bench, i_syn=[10e-6, 200e-6], v_thr=[1.8, 0.8], out=out)


@pytest.mark.parametrize(
    ("i_syn", "v_thr", "hertz"), [(10e-6, 1.8, 419), (10e-6, 0.8, 800), (200e-6, 1.8, 59e3), (200e-6, 0.8, 68e3)]
)
def test_rates_of_figure_4a(fi: labctl.Run, i_syn: float, v_thr: float, hertz: float) -> None:
    table = fi.table()
    at = (table["i_syn"] == i_syn) & (table["v_thr"] == v_thr)
    assert table["rate"][at] == pytest.approx(hertz, rel=0.05)
    assert 1 / table["isi"][at] == pytest.approx(hertz, rel=0.05)
    assert table["spikes"][at] == np.round(table["rate"][at] * fi.params["duration"])


@pytest.mark.parametrize(("v_pw", "hertz"), [(0.8, 20e3), (1.1, 92e3)])
def test_saturation_of_figure_4d(v_pw: float, hertz: float) -> None:
    with labctl.open_bench("sim", seed=1) as bench:
        [point] = lif_fi_curve(bench, i_syn=[200e-6], v_thr=[1.2], v_pw=v_pw, duration=0.02)
    assert point.rate == pytest.approx(hertz, rel=0.10)


def test_the_file_says_what_was_measured(fi: labctl.Run) -> None:
    assert fi.status == "done"
    assert fi.units() == {"i_syn": "A", "v_thr": "V", "rate": "Hz", "spikes": "", "isi": "s", "isi_sd": "s"}
    assert fi.params["v_pw"] == 1.0
    assert fi.table()["v_thr"].tolist() == [1.8, 1.8, 0.8, 0.8]


def test_scope_traces_show_the_membrane_and_replay(tmp_path: Path) -> None:
    """V_mem rises from 0 to threshold and the period on the screen is the counter's."""
    with labctl.open_bench("sim", seed=1) as bench:
        run = labctl.run(
            "lif_fi_curve", bench, i_syn=[50e-6], v_thr=[1.2], duration=0.02, trace=True, out=tmp_path / "t.h5"
        )
    assert run.traces == ["mem"]
    trace, rate = run.trace("mem", 0), run.table()["rate"][0]
    assert trace.unit == "V"
    crossing = 1.2 + 0.286  # threshold and the comparator's offset; then the membrane rises on during the latency
    slew = crossing / (1 / rate - 3.02e-6 - 10.2e-6)
    assert trace.values.max() == pytest.approx(crossing + slew * 3.02e-6, abs=0.03)
    assert trace.values.min() == pytest.approx(0.0, abs=0.05)
    falls = np.flatnonzero((trace.values[:-1] > 0.8) & (trace.values[1:] < 0.8))
    assert 1 / np.diff(trace.t[falls]).mean() == pytest.approx(rate, rel=0.02)
    assert verify(run.path).traces == 1


def test_a_notebook_needs_no_runner() -> None:
    with labctl.open_bench("sim", seed=1) as bench:
        rows = list(lif_fi_curve(bench, i_syn=[50e-6], v_thr=[1.2], duration=0.01))
        assert len(rows) == 1
        assert bench.board.status().safe


def test_limits_are_checked_before_anything_is_sent() -> None:
    with labctl.open_bench("sim", seed=1) as bench:
        with pytest.raises(LimitError, match=r"IN0 = 4\.4 V|IN0 − VDD"):
            list(lif_fi_curve(bench, i_syn=[200e-6], v_ref=2.4))
        assert bench.board.status().safe
        with pytest.raises(UsageError, match="has no power"):
            bench.inject(0, 1e-6)
        with pytest.raises(UsageError, match="no bias 'v_nonsense'"), bench.powered(v_nonsense=1.0):
            pass
        with pytest.raises(LimitError, match=r"VDD = 5 V is beyond 3\.6 V"), bench.powered(v_dd=5.0):
            pass


def test_the_board_enforces_what_the_host_forgot() -> None:
    """A driver without host checks cannot push more than 200 µA through the LDO."""
    bench: Bench
    with labctl.open_bench("sim", seed=1) as bench:
        with bench.powered(v_ref=1.0), pytest.raises(LimitError, match="LIMIT DAC 10 minus DAC 1"):
            bench.board.set_dacs({bench.station.converter("IN0"): 3.2})
        assert bench.board.status().safe

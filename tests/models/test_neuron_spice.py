"""An independent simulator on a netlist of the same equations: ngspice, behavioural sources."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.models.neuron import Biases, LifParams, Neurons, leaks, pulse_width, pulses
from labctl.models.neuron_params import thermal_voltage

pytestmark = pytest.mark.skipif(
    shutil.which("ngspice") is None, reason="ngspice is not on PATH; `apt-get install ngspice` (independent check)"
)

NETLIST = """LIF neuron: attenuator, membrane with leak and steering, comparator, latency and output pulse
Vi i 0 PWL({pwl})
Ba a 0 V = V(i)/{kc}*(1 + (V(i)/{i_x})^{m})^({p}/{m})
Cm m 0 1
Bm 0 m I = V(out) > 0.5 ? -V(m)*1e9 : V(a)/(1 + exp((V(m)-{v_gain})/{w_gain}))
+ + (V(m) > {v_rest} ? -{l_n}*(1 - exp(-(V(m)-{v_rest})/{u_t})) : {l_p}*(1 - exp((V(m)-{v_rest})/{u_t})))
Bc c 0 V = V(m) > {threshold} ? 1 : 0
aout c cntl clr out pulse
.model pulse oneshot(cntl_array=[0 1] pw_array=[{t_pw} {t_pw}] clk_trig=0.5 pos_edge_trig=TRUE
+ out_low=0 out_high=1 rise_delay={t_lat} fall_delay=1e-9 rise_time=1e-9 fall_time=1e-9)
Vcntl cntl 0 0.5
Vclr clr 0 0
.ic V(m)={v_rest}
.control
tran {step} {duration} uic
wrdata {file} v(out)
quit 0
.endc
.end
"""


def spice(
    folder: Path, biases: Biases, times: NDArray[np.float64], currents: NDArray[np.float64], duration: float
) -> NDArray[np.float64]:
    """Times of the rising edges of the output."""
    p = LifParams()
    corners = [(0.0, 0.0)]
    for t, i in zip(times, currents, strict=True):
        at = max(t + (float(p.t_d) if i > 0 else 0.0), 1e-8)  # each onset loses the dead time
        corners += [(at - 5e-9, corners[-1][1]), (at + 5e-9, i)]
    l_n, l_p = leaks(biases.v_taun, biases.v_taup)
    file = folder / "out.txt"
    text = NETLIST.format(
        pwl=" ".join(f"{t:.9g} {i:.9g}" for t, i in corners), kc=p.kc, i_x=p.i_x, m=p.m, p=p.p, v_gain=biases.v_gain,
        w_gain=p.w_gain, v_rest=biases.v_rest, l_n=l_n, l_p=l_p, u_t=thermal_voltage(300.0),
        threshold=float(biases.v_thr) + float(p.v_os), t_pw=float(pulse_width(biases.v_pw)), t_lat=p.t_lat,
        step=duration / 20_000, duration=duration, file=file,
    )  # fmt: skip
    netlist = folder / "lif.cir"
    netlist.write_text(text)
    subprocess.run(["ngspice", "-b", str(netlist)], check=True, capture_output=True, timeout=100)
    t, out = np.loadtxt(file, unpack=True)
    return np.asarray(t[1:][(out[1:] > 0.5) & (out[:-1] <= 0.5)])


@pytest.mark.parametrize(
    ("i_syn", "biases", "duration"),
    [(10e-6, Biases(v_thr=1.8), 25e-3), (40e-6, Biases(), 3e-3), (200e-6, Biases(v_thr=0.8, v_pw=1.1), 0.5e-3)],
)
def test_constant_current(tmp_path: Path, i_syn: float, biases: Biases, duration: float) -> None:
    """Same number of spikes, first within 1 %, period within 1 %."""
    expected = spice(tmp_path, biases, np.zeros(1), np.array([i_syn]), duration)
    found = Neurons(1, biases=biases, noise=False).advance(duration, i_syn)
    assert len(expected) > 5
    assert len(found.t) == len(expected)
    assert found.t[0] == pytest.approx(expected[0], rel=0.01)
    assert np.diff(found.t) == pytest.approx(np.diff(expected), rel=0.01)


def test_read_pulses(tmp_path: Path) -> None:
    """Dead time, leak from both sides, and steering between pulses."""
    times, currents = pulses(1e-4, 1e-3, 15e-6, 40e-6, 30)
    expected = spice(tmp_path, Biases(v_taun=1.3), times, currents, 31e-3)
    found = Neurons(1, biases=Biases(v_taun=1.3), noise=False).advance_steps(31e-3, times, currents)
    assert len(expected) >= 3
    assert len(found.t) == len(expected)
    assert found.t[0] == pytest.approx(expected[0], rel=0.01)

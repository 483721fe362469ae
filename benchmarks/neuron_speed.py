"""Speed of the event-driven neurons beside Brian2 and ngspice: same equations, same machine, one run.

    python benchmarks/neuron_speed.py [--rounds 5] [--brian2 PYTHON] [--no-ngspice]

PYTHON is an interpreter that has Brian2 (2.9 needs numpy < 2.4, so it is usually another environment); without it that
part is left out. Each figure is the best of the rounds in wall time, scaled to one second of chip time; compilation is
not in it. Brian2 steps with 1 µs (forward Euler, latency taken as part of the refractory period); ngspice chooses its
steps, at most 1 µs. Rates are printed so that one sees that all three simulate the same thing.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

NEURONS = 1000
LOW, HIGH = 1e-6, 17.4e-6  # A, constant currents: 683 Hz on average
PULSE, WIDTH, PERIOD = 40e-6, 10e-6, 1e-3

BRIAN = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np
from brian2 import *
prefs.logging.file_log = False
mode, duration, n, c, slews, pulsed = json.loads(sys.argv[1])
if mode == "cpp_standalone":
    set_device("cpp_standalone", directory=sys.argv[2], build_on_run=False)
else:
    prefs.codegen.target = mode
defaultclock.dt = 1*us
# whole steps of 1 us: the charge of the pulse, less the dead time, spread over six of them
share = (c["width"] - c["t_d"])/6e-6
gate = f"{share}*int((i_step % 1000) >= 4)*int((i_step % 1000) < 10)" if pulsed else "1"
gate = gate.replace("i_step", "int(t/second*1e6 + 0.5)")
eqs = '''dv/dt = (a*{gate}/(1 + exp((v - {v_gain})/{w})) - int(v > {rest})*{l_n}*(1 - exp(-(v - {rest})/{u_t}))
 + int(v <= {rest})*{l_p}*(1 - exp((v - {rest})/{u_t})))/second : 1 (unless refractory)
a : 1 (constant)'''.format(gate=gate, **c)
cells = NeuronGroup(n, eqs, threshold="v > {0}".format(c["thr"]), reset="v = 0", refractory=c["hold"]*second,
                    method="euler")
cells.v = c["rest"]
cells.a = np.array(slews)
spikes = SpikeMonitor(cells)
net = Network(cells, spikes)
if mode == "cpp_standalone":
    net.run(duration*second)
    device.build(directory=sys.argv[2], run=False)
    start = time.perf_counter()
    device.run(directory=sys.argv[2], with_output=False, run_args=[])
    wall = time.perf_counter() - start
else:
    net.run(100*us)
    before = spikes.num_spikes
    start = time.perf_counter(); net.run(duration*second); wall = time.perf_counter() - start
print(json.dumps([wall, int(spikes.num_spikes)]))
"""

SPICE = """one LIF neuron
Cm m 0 1
Bm 0 m I = V(out) > 0.5 ? -V(m)*1e9 : {a}/(1 + exp((V(m)-{v_gain})/{w}))
+ + (V(m) > {rest} ? -{l_n}*(1 - exp(-(V(m)-{rest})/{u_t})) : {l_p}*(1 - exp((V(m)-{rest})/{u_t})))
Bc c 0 V = V(m) > {thr} ? 1 : 0
aout c cntl clr out pulse
.model pulse oneshot(cntl_array=[0 1] pw_array=[{t_pw} {t_pw}] clk_trig=0.5 pos_edge_trig=TRUE
+ out_low=0 out_high=1 rise_delay={t_lat} fall_delay=1e-9 rise_time=1e-9 fall_time=1e-9)
Vcntl cntl 0 0.5
Vclr clr 0 0
.ic V(m)={rest}
.control
tran 1u {duration} 0 1u uic
wrdata {file} v(out)
quit 0
.endc
.end
"""


def best(work: Callable[[], object], rounds: int) -> float:
    """Wall seconds of `work`, the best of the rounds, after one to warm up."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def constants() -> dict[str, float]:
    """The numbers of the default neuron, for the other simulators."""
    from labctl.models.neuron import Biases, LifParams, leaks, pulse_width
    from labctl.models.neuron_params import thermal_voltage

    p, b = LifParams(), Biases()
    l_n, l_p = leaks(b.v_taun, b.v_taup)
    t_pw = float(pulse_width(b.v_pw))
    return {
        "rest": b.v_rest, "l_n": float(l_n), "l_p": float(l_p), "u_t": thermal_voltage(300.0), "v_gain": b.v_gain,
        "w": p.w_gain, "thr": b.v_thr + p.v_os, "t_pw": t_pw, "t_lat": p.t_lat, "t_d": p.t_d, "width": WIDTH,
        "hold": t_pw + p.t_lat,
    }  # type: ignore[dict-item]  # fmt: skip


def brian(
    python: str, mode: str, duration: float, slews: list[float], pulsed: bool, rounds: int
) -> tuple[float, float]:
    """(wall seconds per second of chip time, mean rate in Hz)."""
    job = json.dumps([mode, duration, len(slews), constants(), slews, pulsed])
    found = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            out = subprocess.run(
                [python, "-c", BRIAN, job, folder], capture_output=True, text=True, check=False, cwd=folder
            )
        if out.returncode:
            raise SystemExit(f"Brian2 ({mode}) failed:\n{out.stderr[-2000:]}")
        found.append(json.loads(out.stdout.strip().splitlines()[-1]))
    wall, spikes = min(found)
    return wall / duration, spikes / duration / len(slews)


def ngspice(slew: float, duration: float, rounds: int) -> tuple[float, float]:
    """(wall seconds per second of chip time, rate in Hz) of one neuron."""
    with tempfile.TemporaryDirectory() as folder:
        netlist, file = Path(folder) / "lif.cir", Path(folder) / "out.txt"
        netlist.write_text(SPICE.format(a=slew, duration=duration, file=file, **constants()))
        wall = best(lambda: subprocess.run(["ngspice", "-b", str(netlist)], capture_output=True, check=True), rounds)
        _, out = np.loadtxt(file, unpack=True)
    return wall / duration, float(((out[1:] > 0.5) & (out[:-1] <= 0.5)).sum()) / duration


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--brian2", metavar="PYTHON", help="interpreter that has Brian2")
    parser.add_argument("--no-ngspice", action="store_true")
    args = parser.parse_args()
    from labctl.models.neuron import Biases, Neurons, pulses, slew

    i_syn = np.linspace(LOW, HIGH, NEURONS)
    slews = np.asarray(slew(i_syn)).tolist()
    train = pulses(0.2e-3, PERIOD, WIDTH, PULSE, round(1 / PERIOD))
    rows: list[tuple[str, str, float, float]] = []

    many = Neurons(NEURONS)
    wall = best(lambda: many.advance(1.0, i_syn), 40 * args.rounds)  # short: a busy machine needs many tries
    rows.append(("labctl", f"{NEURONS} neurons, constant", wall, len(many.advance(1.0, i_syn).t) / NEURONS))
    pulsed = Neurons(NEURONS)
    wall = best(lambda: pulsed.advance_steps(1.0, *train), args.rounds)
    rate = len(pulsed.advance_steps(1.0, *train).t) / NEURONS
    rows.append(("labctl", f"{NEURONS} neurons, 1 kHz pulses", wall, rate))
    fast = Neurons(1, biases=Biases(v_thr=1.8))
    wall = best(lambda: fast.advance(1.0, 200e-6), args.rounds)
    rows.append(("labctl", "1 neuron, 200 µA", wall, float(len(fast.advance(1.0, 200e-6).t))))

    def waveform() -> None:
        fast.watch(0)
        fast.advance(1.0, 200e-6)
        fast.v_mem(0, np.linspace(fast.time - 1.0, fast.time, 1_000_001))
        fast.unwatch(0)

    rows.append(("labctl", "the same, V_mem at 10⁶ times", best(waveform, args.rounds), rows[-1][3]))
    one = Neurons(1)
    rows.append(
        (
            "labctl",
            "1 neuron, 15 µA",
            best(lambda: one.advance(1.0, 15e-6), args.rounds),
            float(len(one.advance(1.0, 15e-6).t)),
        )
    )

    if args.brian2:
        for mode, duration in (("cpp_standalone", 0.2), ("cython", 0.02)):
            name = f"Brian2 {mode.replace('_', ' ')}"
            rows.append((name, rows[0][1], *brian(args.brian2, mode, duration, slews, False, 2)))
            on = np.full(NEURONS, float(slew(PULSE))).tolist()
            rows.append((name, rows[1][1], *brian(args.brian2, mode, duration, on, True, 2)))
    if not args.no_ngspice and shutil.which("ngspice"):
        rows.append(("ngspice", "1 neuron, 15 µA", *ngspice(float(slew(15e-6)), 0.1, min(3, args.rounds))))
    base = {stimulus: wall for who, stimulus, wall, _ in rows if who == "labctl"}
    print(f"{'':<22}{'':<32}{'wall s / chip s':>16}{'rate (Hz)':>12}{'× labctl':>12}")
    for who, stimulus, wall, hertz in rows:
        print(f"{who:<22}{stimulus:<32}{wall:>16.5f}{hertz:>12.1f}{wall / base[stimulus]:>12.1f}")


if __name__ == "__main__":
    sys.exit(main())

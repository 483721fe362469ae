"""Models as SPICE subcircuits, with the present state: for ngspice, of the same equations as the kernels.

Spread, noise, relaxation, forming and wear stay behind: a netlist is one array at one moment, deterministic from there.
"""

import numpy as np

from labctl.errors import UsageError
from labctl.models.effects import HEALTHY, NEVER_FORMING, OPEN, SHORTED, Defects, Effects
from labctl.models.filament import FilamentArray, FilamentParams
from labctl.models.filament_cells import N_FORMED, N_TURNS, X_WEAR, limits, present_gap
from labctl.models.neuron_params import I_MAX, Biases, LifParams, broadcast, leaks, pulse_width, thermal_voltage
from labctl.models.transistor import BOLTZMANN, pinch_off, specific_current

_OPEN_OHM = 1e15
_NEURON = """\
.subckt {name} in out mem rsyn=10e3 kc={kc!r} ix={i_x!r} vos={v_os!r} tlat={t_lat!r} td={t_d!r}
+ leakn={ln!r} leakp={lp!r} tpw={tpw!r}
* synaptic resistance into the LDO, then the current (A) as a voltage; it acts once it has lasted for td
Bi i 0 V = min({i_max!r}, max(0, (V(in) - {v_ref!r})/{{rsyn}}))
Td i 0 d 0 Z0=1 TD={{td}}
Rd d 0 1
Ba a 0 V = V(d) > 1e-12 ? V(i)/{{kc}}*(1 + (V(i)/{{ix}})^{m!r})^({p!r}/{m!r}) : 0
* membrane: attenuator and its steering, leak to v_rest, reset while the output is high
Cm mem 0 1 IC={v_rest!r}
Vdown down 0 {{leakn}}
Vup up 0 {{leakp}}
Bm 0 mem I = V(o) > 0.5 ? -V(mem)*1e9 : V(a)/(1 + exp((V(mem) - {v_gain!r})/{w_gain!r}))
+ + (V(mem) > {v_rest!r} ? -V(down)*(1 - exp(-(V(mem) - {v_rest!r})/{u_t!r}))
+ : V(up)*(1 - exp((V(mem) - {v_rest!r})/{u_t!r})))
* comparator, latency, output pulse
Bc c 0 V = V(mem) > {v_thr!r} + {{vos}} ? 1 : 0
Vcntl cntl 0 0.5
Vclr clr 0 0
aout c cntl clr o pulse
.model pulse oneshot(cntl_array=[0 1] pw_array=[{{tpw}} {{tpw}}] clk_trig=0.5 pos_edge_trig=TRUE
+ out_low=0 out_high=1 rise_delay={{tlat}} fall_delay=1e-9 rise_time=1e-9 fall_time=1e-9)
Bo out 0 V = {v_dd!r}*V(o)
.ends {name}
"""


def _transistor(p: FilamentParams, temperature: float, v_t0: float) -> str:
    """EKV between m and sl; its v_t0 is that of the temperature (K)."""
    double = 2 * BOLTZMANN * temperature
    i_spec = specific_current(p.i_spec, temperature)
    return f"""\
Bq ql 0 V = (V(wl) - {v_t0!r})/{p.n!r}
Btr m sl I = {i_spec!r}*(ln(1 + exp((V(ql) - V(sl))/{double!r}))^2 - ln(1 + exp((V(ql) - V(m))/{double!r}))^2)"""


def filament_subcircuit(params: FilamentParams, temperature: float = 300.0, name: str = "filament") -> str:
    """The cell of `labctl.models.filament` as `.subckt NAME bl wl sl`, bulk at the global ground.

    Parameters of an instance: `gap` at the start, `gapmin`, `gapreset` (nm) and `speed`. The gap is the voltage of node
    `g` (1 V is 1 nm), so a transient must start with `uic`. The floor at `gapmin` is soft over 1 pm. The transistor's
    V_T0 and I_spec are those of `temperature` (K).
    """
    p = params
    v_t0 = -pinch_off(0.0, p.v_t0, 1.0, temperature)
    kelvin = f"({temperature!r} + {p.r_th!r}*max(0, V(bl,m)*I(Vm)))"
    field = (
        f"0.05*V(bl,m)*(V(bl,m) > 0 ? {p.gamma_set!r}*max(0, 1 - (V(g)/{p.gap_set!r})^3)"
        f" : {p.gamma_reset!r}*max(0, 1 - (V(g)/{{gapreset}})^3))"
    )
    return f"""\
.subckt {name} bl wl sl gap={p.gap_reset!r} gapmin={p.gap_min!r} gapreset={p.gap_reset!r} speed=1
* memristor: I = i_0 exp(-gap/g_0) sinh(V/v_0), solved for V, which converges from anywhere
Bmem bl k V = {p.v_0!r}*asinh(I(Vm)*exp(V(g)/{p.g_0!r})/{p.i_0!r})
Vm k m 0
* transistor: EKV
{_transistor(p, temperature, v_t0)}
* gap, nm: opening and closing rate, nm/s
Ba a 0 V = {field}
Bt t 0 V = {BOLTZMANN!r}*{kelvin}
Bo o 0 V = {{speed}}*{p.rate!r}*exp(min(60, -({p.e_reset!r} + V(a))/V(t)))
Bc c 0 V = {{speed}}*{p.rate!r}*exp(min(60, (V(a) - {p.e_set!r})/V(t)))*min(1, max(0, (V(g) - {{gapmin}})/0.001))
Bg 0 g I = 1n*(V(o) - V(c))
Cg g 0 1n IC={{gap}}
.ends {name}
"""


def resistor_subcircuit(params: FilamentParams, temperature: float = 300.0, name: str = "resistor") -> str:
    """A cell that is but a resistor, `r` (Ω) of the instance, and its transistor: `.subckt NAME bl wl sl`."""
    v_t0 = -pinch_off(0.0, params.v_t0, 1.0, temperature)
    return f"""\
.subckt {name} bl wl sl r=1k
Rmem bl m {{r}}
{_transistor(params, temperature, v_t0)}
.ends {name}
"""


def filament_netlist(array: FilamentArray, name: str = "filament") -> str:
    """The subcircuit, and an instance for each cell in its present state between the lines BLc, WLr and SLr.

    Word and source lines run along the rows. Each cell keeps the draws of the half-cycle that it is in. Shorted, open
    and never forming cells become resistors. Raises `UsageError` for a pristine cell, which the subcircuit cannot form.
    """
    if len(array.shape) != 2:
        raise UsageError(f"an array of shape {array.shape} has no rows and columns; give it two sides")
    lines = [filament_subcircuit(array.params, array.temperature, name)]
    lines.append(resistor_subcircuit(array.params, array.temperature))
    p, e = array.params.vector(), array.effects.vector()
    for cell in range(array.size):
        row, column = divmod(cell, array.shape[1])
        code = array._codes[cell]
        if code in (SHORTED, OPEN):
            ohm = array.params.r_short if code == SHORTED else _OPEN_OHM
            lines.append(f"X{row}_{column} BL{column} WL{row} SL{row} resistor r={ohm!r}\n")
            continue
        if array._n[N_FORMED, cell] == 0:
            if code != NEVER_FORMING:
                raise UsageError(f"cell {cell} is pristine; form it, or export a part of the array that is formed")
            small = array.params.v_pristine / array.params.i_pristine  # of i_p·sinh(V/v_p) near 0 V
            lines.append(f"X{row}_{column} BL{column} WL{row} SL{row} resistor r={small!r}\n")
            continue
        gap = present_gap(cell, array._x, array._n, array._clock, p, e, array._seed)
        turn, wear = array._n[N_TURNS, cell], array._x[X_WEAR, cell]
        speed, low, high = limits(cell, turn, wear, array._d, p, e, array._seed)
        if code != HEALTHY:  # stuck
            speed = 0.0
        lines.append(
            f"X{row}_{column} BL{column} WL{row} SL{row} {name} gap={gap!r} gapmin={low!r} gapreset={high!r}"
            f" speed={speed!r}\n"
        )
    return "".join(lines)


def neuron_subcircuit(params: LifParams, biases: Biases, temperature: float = 300.0, name: str = "lif") -> str:
    """The neuron of `labctl.models.neuron` as `.subckt NAME in out mem`, at these biases, at rest; needs XSPICE.

    Parameters of an instance: `rsyn` (Ω in front of the pad) and those that vary from neuron to neuron, in SI units.
    Not in it: noise, jitter of the read pulses, the low-bias mode of the comparator, thresholds taken from others.
    """
    return _NEURON.format(name=name, **_neuron_numbers(params, biases, temperature, 0, 1))


def neurons_netlist(
    params: LifParams, biases: Biases, r_syn: list[float], temperature: float = 300.0, name: str = "lif"
) -> str:
    """The subcircuit, and an instance a neuron between INk, OUTk and MEMk; `r_syn` (Ω) has one value a neuron."""
    lines = [neuron_subcircuit(LifParams(), biases, temperature, name)]
    for k, ohm in enumerate(r_syn):
        p = _neuron_numbers(params, biases, temperature, k, len(r_syn))
        own = {"kc": p["kc"], "ix": p["i_x"], "vos": p["v_os"], "tlat": p["t_lat"], "td": p["t_d"]}
        own |= {"leakn": p["ln"], "leakp": p["lp"], "tpw": p["tpw"]}
        numbers = " ".join(f"{key}={value!r}" for key, value in own.items())
        lines.append(f"Xn{k} IN{k} OUT{k} MEM{k} {name} rsyn={ohm!r} {numbers}\n")
    return "".join(lines)


def _neuron_numbers(params: LifParams, biases: Biases, temperature: float, k: int, n: int) -> dict[str, float]:
    """Neuron k of n as plain numbers."""
    u_t = thermal_voltage(temperature)
    down, up = leaks(biases.v_taun, biases.v_taup, params, temperature)
    derived = {"ln": down, "lp": up, "tpw": pulse_width(biases.v_pw, params, temperature)}
    values = broadcast(params, n) | broadcast(biases, n) | {key: np.broadcast_to(v, n) for key, v in derived.items()}
    numbers = {key: float(value[k]) for key, value in values.items()}
    return numbers | {"u_t": u_t, "w_gain": numbers["w_gain"] * temperature / 300.0, "i_max": I_MAX}


def measured_netlist(
    params: FilamentParams, g: dict[tuple[int, int], float], v_read: float, v_wl: float, temperature: float = 300.0
) -> str:
    """Cells in states as they were measured: (row, column) → conductance (S) at `v_read` with the gate at `v_wl` (V).

    Each cell gets the gap at which the model without spread conducts so. A cell that conducts less than any gap does,
    or not at all, becomes a resistor of its own value, and so does one that conducts better (a short).
    """
    ideal = params.ideal()
    gaps = np.linspace(0.0, 3.0, 601)
    scale = FilamentArray((gaps.size,), params=ideal, effects=Effects.none(), temperature=temperature)
    scale.set_gap(gaps)
    on = FilamentArray(
        (1,), params=ideal, effects=Effects.none(), temperature=temperature, defects=Defects(shorted=1.0)
    )
    transistor = v_read / float(on.read(v_read, 0.0, v_wl, 0.0)[0]) - ideal.r_short
    of_gap = scale.read(v_read, 0.0, v_wl, 0.0) / v_read  # falls along the gaps
    lines = [filament_subcircuit(ideal, temperature), resistor_subcircuit(ideal, temperature)]
    for (row, column), value in sorted(g.items()):
        if of_gap[-1] <= value <= of_gap[0]:
            gap = float(np.interp(-np.log(value), -np.log(of_gap), gaps))
            lines.append(f"X{row}_{column} BL{column} WL{row} SL{row} filament gap={gap!r}\n")
        else:
            ohm = max(1.0 / value - transistor, 1.0) if value > 0 else _OPEN_OHM
            lines.append(f"X{row}_{column} BL{column} WL{row} SL{row} resistor r={ohm!r}\n")
    return "".join(lines)

"""Models as SPICE subcircuits, with the present state: for ngspice, of the same equations as the kernels.

Spread, noise, relaxation, forming and wear stay behind: a netlist is one array at one moment, deterministic from there.
"""

from labctl.errors import UsageError
from labctl.models.effects import HEALTHY, OPEN, SHORTED
from labctl.models.filament import FilamentArray, FilamentParams
from labctl.models.filament_cells import N_FORMED, N_TURNS, X_WEAR, limits, present_gap
from labctl.models.transistor import BOLTZMANN, pinch_off, specific_current

_OPEN_OHM = 1e15


def filament_subcircuit(params: FilamentParams, temperature: float = 300.0, name: str = "filament") -> str:
    """The cell of `labctl.models.filament` as `.subckt NAME bl wl sl`, bulk at the global ground.

    Parameters of an instance: `gap` at the start, `gapmin`, `gapreset` (nm) and `speed`. The gap is the voltage of node
    `g` (1 V is 1 nm), so a transient must start with `uic`. The floor at `gapmin` is soft over 1 pm. The transistor's
    V_T0 and I_spec are those of `temperature` (K).
    """
    p, kt = params, BOLTZMANN * temperature
    v_t0 = -pinch_off(0.0, p.v_t0, 1.0, temperature)
    i_spec = specific_current(p.i_spec, temperature)
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
Bq ql 0 V = (V(wl) - {v_t0!r})/{p.n!r}
Btr m sl I = {i_spec!r}*(ln(1 + exp((V(ql) - V(sl))/{2 * kt!r}))^2 - ln(1 + exp((V(ql) - V(m))/{2 * kt!r}))^2)
* gap, nm: opening and closing rate, nm/s
Ba a 0 V = {field}
Bt t 0 V = {BOLTZMANN!r}*{kelvin}
Bo o 0 V = {{speed}}*{p.rate!r}*exp(min(60, -({p.e_reset!r} + V(a))/V(t)))
Bc c 0 V = {{speed}}*{p.rate!r}*exp(min(60, (V(a) - {p.e_set!r})/V(t)))*min(1, max(0, (V(g) - {{gapmin}})/0.001))
Bg 0 g I = 1n*(V(o) - V(c))
Cg g 0 1n IC={{gap}}
.ends {name}
"""


def filament_netlist(array: FilamentArray, name: str = "filament") -> str:
    """The subcircuit, and an instance for each cell in its present state between the lines BLc, WLr and SLr.

    Word and source lines run along the rows. Each cell keeps the draws of the half-cycle that it is in. Shorted and
    open cells become resistors. Raises `UsageError` for a pristine cell, which the subcircuit cannot form.
    """
    if len(array.shape) != 2:
        raise UsageError(f"an array of shape {array.shape} has no rows and columns; give it two sides")
    lines = [filament_subcircuit(array.params, array.temperature, name)]
    p, e = array.params.vector(), array.effects.vector()
    for cell in range(array.size):
        row, column = divmod(cell, array.shape[1])
        code = array._codes[cell]
        if code in (SHORTED, OPEN):
            ohm = array.params.r_short if code == SHORTED else _OPEN_OHM
            lines.append(f"R{row}_{column} BL{column} SL{row} {ohm!r}\n")
            continue
        if array._n[N_FORMED, cell] == 0:
            raise UsageError(f"cell {cell} is pristine; form it, or export a part of the array that is formed")
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

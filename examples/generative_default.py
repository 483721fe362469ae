"""Make labctl's default parameter file of the generative model: a fit of labctl's own, to generated data.

    python examples/generative_default.py [OUT.json]

The data are 512 devices × 2,000 cycles, and I–V loops of 64 devices × 10 cycles, that the model generates from the
parameters published with PyPI `synaptogen` (Hennen et al., Front. Neurosci. 16:941753, 2022); the fitter sees cycles
and loops only. It shows how a chip's own file is made: put recorded cycles and loops in their place.
"""

import sys
from pathlib import Path

import numpy as np
import synaptogen
from numpy.typing import NDArray

from labctl.analysis.loops import reset_transitions, state_curves
from labctl.models.fit_generative import fit_generative
from labctl.models.generative import Generative, generate_cycles
from labctl.models.generative_params import DEFAULT, GenerativeParams, load

PROVENANCE = (
    "Fitted by labctl (examples/generative_default.py) to 512 devices × 2000 cycles, and to I–V loops of 64 devices × "
    "10 cycles, generated from the parameters that synaptogen 0.2.0 publishes (MIT licence; Hennen et al., Front. "
    "Neurosci. 16:941753, 2022; 1T1R devices). gate and timing are assumed, not fitted."
)


def read_at(params: GenerativeParams, resistance: NDArray[np.float64], v: float) -> NDArray[np.float64]:
    """What a read at v = v_bl - v_sl gives of a state whose resistance the parameters declare at -u_read."""
    g_l, g_h = (np.polyval(c, params.u_read) / params.u_read for c in (params.llrs, params.hhrs))
    r = (g_l - 1 / resistance) / (g_l - g_h)
    return -v / ((1 - r) * np.polyval(params.llrs, -v) + r * np.polyval(params.hhrs, -v))


def main() -> None:
    truth = load(Path(synaptogen.__file__).with_name("default_params.json"))
    cycles = generate_cycles(truth, 512, 2000, seed=2022)
    for k in (0, 2):  # loops are read at +0.2 V, the published resistances at -0.2 V
        cycles[..., k] = read_at(truth, cycles[..., k], 0.2)
    step = 0.01
    v = np.concatenate([np.arange(0, 1.5, step), np.arange(1.5, -1.5, -step), np.arange(-1.5, 0, step)])
    cells = Generative((64,), truth, seed=2024)
    width = truth.timing.width
    i = np.array([cells.pulse(max(x, 0.0), max(-x, 0.0), 3.0, width) for x in np.tile(v, 10)])
    numbers = np.repeat(np.arange(10), len(v))
    curves = [state_curves(np.tile(v, 10), i[:, k], numbers) for k in range(64)]
    ways = [reset_transitions(np.tile(v, 10), i[:, k], numbers) for k in range(64)]
    c, w = ([np.concatenate(part) for part in zip(*parts, strict=True)] for parts in (curves, ways))
    fit = fit_generative(
        cycles, v_read=0.2, curves=tuple(c), transition=tuple(w), like=truth, provenance=PROVENANCE
    )  # fmt: skip
    print(fit.goodness)
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    fit.params.save(out)
    print(out)


if __name__ == "__main__":
    main()

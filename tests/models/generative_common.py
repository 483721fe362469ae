"""What the tests of the generative model share: the published parameters, statistics, cycles."""

from pathlib import Path

import numpy as np
import synaptogen
from numpy.typing import NDArray

from labctl.models.generative import Generative

PUBLISHED = Path(synaptogen.__file__).with_name("default_params.json")
LONG = 1e9  # s: moves thresholds far enough that no device misses a cycle at 1.5 V
WIDE = 1e-6  # s: the reference width


def cycle(cells: Generative, count: int) -> NDArray[np.float64]:
    """(count, cells, 4): log10 R_HRS, U_SET, R_LRS, U_RESET of `count` cycles, all cells cycled together."""
    out = np.empty((count, np.prod(cells.shape), 4))
    for y in out:
        cells.write(1.5, 0.0, 3.0, LONG)
        cells.write(0.0, 1.5, 3.0, LONG)
        y[:] = cells.features
    out[..., 0] = np.log10(out[..., 0])
    out[..., 1::2] *= -1  # the published table is in U = -v
    return out


def acf(x: NDArray[np.float64], lag: int) -> float:
    """Mean over devices of the autocorrelation over cycles; x is (cycles, devices)."""
    x = x - x.mean(0)
    return float(((x[lag:] * x[: len(x) - lag]).sum(0) / (x * x).sum(0)).mean())

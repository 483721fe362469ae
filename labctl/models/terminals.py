"""Arrays of two-terminal cells: what the slider and the multi-level cell have in common."""

from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import UsageError
from labctl.models import terminal_kernel as kernel
from labctl.models.cells import CellArray
from labctl.models.counter_rng import device_normals
from labctl.models.device import Cells, FloatArray
from labctl.models.effects import NEVER_FORMING, Defects, Effects


class _Params(Protocol):
    def vector(self) -> NDArray[np.float64]: ...


P = TypeVar("P", bound=_Params)


class TerminalArray(CellArray, Generic[P]):
    """An array whose cells have one state in 0 … 1 (1 conducts best); `formed=False` gives a pristine array."""

    defaults: ClassVar[type[_Params]]
    hold_kernel = staticmethod(kernel.hold)
    read_kernel = staticmethod(kernel.read)

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        seed: int = 0,
        formed: bool = True,
        temperature: float = 300.0,
        params: P | None = None,
        effects: Effects | None = None,
        defects: Defects | None = None,
        threads: int | None = None,
    ) -> None:
        self.params: P = params or type(self).defaults()  # type: ignore[assignment]
        super().__init__(
            shape, seed=seed, temperature=temperature, numbers=self.params.vector(), state_rows=6, counters=5,
            device_rows=3, effects=effects or Effects(), defects=defects or Defects(), threads=threads,
        )  # fmt: skip
        if formed:
            self._n[kernel.N_FORMED, self._codes != NEVER_FORMING] = 1

    def _draw(self) -> None:
        device_normals(self._seed, self._d, 100)

    @property
    def level(self) -> FloatArray:
        """State of each cell as last programmed (0 … 1), in the array's shape; nan where it is pristine. A copy."""
        return np.where(self._n[kernel.N_FORMED] > 0, self._x[kernel.X_STATE], np.nan).reshape(self.shape)

    def set_level(self, level: ArrayLike, cells: Cells = None) -> None:
        """Put cells into a state (0 … 1), formed, as if just programmed; for tests and for recorded starting states."""
        index = self._index(cells)
        try:
            values = np.broadcast_to(np.asarray(level, dtype=np.float64), index.shape)
        except (TypeError, ValueError) as error:
            raise UsageError(f"level does not fit {index.size} cells: {error}") from error
        if not ((values >= 0.0) & (values <= 1.0)).all():
            raise UsageError("a level is outside 0 … 1")
        own = self._x[kernel.X_OWN, index]
        self._x[kernel.X_STATE, index] = values
        self._x[kernel.X_MOVED, index] = 0.0
        self._x[kernel.X_TIME, index] = self._clock[0] + own
        self._x[kernel.X_RETENTION, index] = self._clock[1] + self._clock[3] * own
        self._n[kernel.N_EVENTS, index] += 1
        self._n[kernel.N_FORMED, index] = 1

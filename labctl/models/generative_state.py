"""How the generative model keeps its cells, and what its kernels are given."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from labctl.models.simd import LANES

TILE = 64
"""Blocks that are worked on together, so that cells that are due fill whole vectors; they fit the second cache."""

LINE = 64
"""Bytes of a cache line."""

IN_LRS, IN_HRS, STUCK, LIMITED = 1, 2, 4, 8
"""Bits of a cell's flags; LIMITED: the gate stopped the last SET before the drawn LRS."""

Y_HRS, Y_SET, Y_LRS, Y_RESET = range(4)
"""Features of a cycle: log10 R_HRS, U_SET, R_LRS, U_RESET."""

DRAW, HISTORY, DEVICE, NOISE = range(4)
"""Third counter word: what a random number is for."""


class State(NamedTuple):
    """The cells, by blocks of LANES."""

    hist: Any  # (blocks, p, 4, LANES) float32: ring of latent vectors, some of them of cycles to come
    device: Any  # (blocks, 8, LANES) float32: mu and sigma of the four features
    y: Any  # (blocks, 4, LANES) float32: log10 R_HRS, U_SET, R_LRS, U_RESET of the present cycle
    ratio: Any  # (blocks, LANES) float32: mixing r, the cell's state
    threshold: Any  # (blocks, LANES) float32: present RESET threshold
    slope: Any  # (blocks, LANES) float32: a of the RESET transition
    slot: Any  # (blocks, LANES) uint8: ring position of the next latent vector, the count modulo p
    count: Any  # (blocks, LANES) uint32: cycles drawn
    flags: Any  # (blocks, LANES) uint8
    born: Any  # (blocks or 0, LANES) float64: when it was programmed, s; none without effects of time
    aged: Any  # (blocks or 0, LANES) float32: the same on the clock of retention


def room(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array whose rows of LANES float32 are whole cache lines; else each would touch two."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def empty_state(blocks: int, order: int, ages: bool) -> State:
    """Room for so many blocks of fresh cells, features and histories not yet drawn."""
    aging = blocks if ages else 0
    state = State(
        hist=room((blocks, order, 4, LANES), np.float32),
        device=room((blocks, 8, LANES), np.float32),
        y=room((blocks, 4, LANES), np.float32),
        ratio=room((blocks, LANES), np.float32),
        threshold=room((blocks, LANES), np.float32),
        slope=room((blocks, LANES), np.float32),
        slot=room((blocks, LANES), np.uint8),
        count=room((blocks, LANES), np.uint32),
        flags=room((blocks, LANES), np.uint8),
        born=room((aging, LANES), np.float64),
        aged=room((aging, LANES), np.float32),
    )
    for array in (state.slope, state.slot, state.count, state.born, state.aged):
        array.fill(0)
    state.flags.fill(IN_HRS)
    return state


class Tables(NamedTuple):
    """The parameters in the form the kernels take; scalars are float32."""

    order: Any  # p
    innovation: Any  # (4, 4) float32: L
    lags: Any  # (p, 4, 4) float32: A, lag 1 first
    gamma: Any  # (4, 5) float32
    llrs: Any  # eight scalars, highest power first
    hhrs: Any
    g_l: Any  # conductance of the LLRS and HHRS at the read voltage
    g_h: Any
    span: Any  # g_l - g_h
    u_max: Any
    i_l: Any  # current of the LLRS and HHRS at u_max
    i_h: Any
    eta: Any
    k0: Any  # the seed's halves, uint32
    k1: Any


class Scratch(NamedTuple):
    """What a kernel works in, allocated once a call."""

    sets: Any  # (TILE,) int64: lanes that switch, as bits
    resets: Any
    e: Any  # (p * 4 * LANES,) float32: normals
    x: Any  # (4 * LANES,) float32: the latent vectors that lanes take from different slots
    hist: Any  # (p * 4 * LANES,) float32: histories side by side, oldest first
    cell: Any  # (LANES,) uint32
    count: Any
    lane: Any  # (TILE * LANES + LANES,) intp: cells that are due
    listed: Any  # (1,) int64: how many


def scratch(order: int) -> Scratch:
    """Room for one call's work."""
    return Scratch(
        sets=np.zeros(TILE, np.int64),
        resets=np.zeros(TILE, np.int64),
        e=np.empty(4 * LANES * order, np.float32),
        x=np.zeros(4 * LANES, np.float32),
        hist=np.zeros(4 * LANES * order, np.float32),
        cell=np.zeros(LANES, np.uint32),
        count=np.zeros(LANES, np.uint32),
        lane=np.empty((TILE + 1) * LANES, np.int64),
        listed=np.zeros(1, np.int64),
    )

"""How the generative model keeps its cells, and what its kernels are given."""

from typing import Any, NamedTuple

import numpy as np

LANES = 128
CHUNK = 16  # lanes of one SIMD step
CHUNKS = LANES // CHUNK
ROW1, ROW2, ROW3, BLOCK = np.uintp(CHUNK), np.uintp(2 * CHUNK), np.uintp(3 * CHUNK), np.uintp(4 * LANES)

IN_LRS, IN_HRS, STUCK, LIMITED = 1, 2, 4, 8
"""Bits of a cell's flags; LIMITED: the gate stopped the last SET before the drawn LRS."""

Y_HRS, Y_SET, Y_LRS, Y_RESET = range(4)
"""Features of a cycle: log10 R_HRS, U_SET, R_LRS, U_RESET."""

DRAW, HISTORY, DEVICE, NOISE = range(4)
"""Third counter word: what a random number is for."""


class State(NamedTuple):
    """The cells, by blocks of LANES."""

    hist: Any  # (blocks, p, 4 * LANES) float32: ring of latent vectors
    device: Any  # (blocks, 8 * LANES) float32: mu and sigma of the four features
    y: Any  # (blocks, 4, LANES) float32: log10 R_HRS, U_SET, R_LRS, U_RESET of the present cycle
    ratio: Any  # (blocks, LANES) float32: mixing r, the cell's state
    threshold: Any  # (blocks, LANES) float32: present RESET threshold
    slope: Any  # (blocks, LANES) float32: a of the RESET transition
    slot: Any  # (blocks, LANES) uint8: ring position of the oldest latent vector
    count: Any  # (blocks, LANES) uint32: cycles drawn
    flags: Any  # (blocks, LANES) uint8
    born: Any  # (blocks or 0, LANES) float64: when it was programmed, s; none without effects of time
    aged: Any  # (blocks or 0, LANES) float32: the same on the clock of retention


def empty_state(blocks: int, order: int, ages: bool) -> State:
    """Room for so many blocks."""
    aging = blocks if ages else 0
    return State(
        hist=np.empty((blocks, order, 4 * LANES), np.float32),
        device=np.empty((blocks, 8 * LANES), np.float32),
        y=np.empty((blocks, 4, LANES), np.float32),
        ratio=np.empty((blocks, LANES), np.float32),
        threshold=np.empty((blocks, LANES), np.float32),
        slope=np.empty((blocks, LANES), np.float32),
        slot=np.zeros((blocks, LANES), np.uint8),
        count=np.zeros((blocks, LANES), np.uint32),
        flags=np.empty((blocks, LANES), np.uint8),
        born=np.zeros((aging, LANES)),
        aged=np.zeros((aging, LANES), np.float32),
    )


class Tables(NamedTuple):
    """The parameters in the form the kernels take; scalars are float32."""

    innovation: Any  # (4, 4) float32: L
    lags: Any  # (p, 4, 4) float32: A, lag 1 first
    gamma: Any  # (4, 5) float32
    llrs: Any  # eight scalars, highest power first
    hhrs: Any
    g_l: Any  # conductance of the LLRS and HHRS at the read voltage
    g_h: Any
    u_max: Any
    i_l: Any  # current of the LLRS and HHRS at u_max
    i_h: Any
    eta: Any
    k0: Any  # the seed's halves, as int64 (LLVM makes faster vectors of them than of uint32)
    k1: Any


class Scratch(NamedTuple):
    """What a kernel works in, allocated once a call."""

    work: Any  # (5, LANES) float32
    masks: Any  # (4, LANES) uint8
    e: Any  # (4 * LANES,) float32: normals
    x: Any  # (4 * LANES,) float32: latent vectors in the order they are drawn
    new: Any  # (4 * LANES,) float32: latent vectors at their lanes
    hist: Any  # (p, 4 * LANES) float32: gathered histories, oldest first
    cell: Any  # (LANES,) uint32
    count: Any  # (LANES,) uint32
    lane: Any  # (LANES,) intp
    get: Any  # (LANES,) uintp
    put: Any
    todo: Any  # (LANES,) uint8
    same: Any
    apart: Any

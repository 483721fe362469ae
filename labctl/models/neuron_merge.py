"""Spikes of many neurons in order of time; work shared between threads."""

import itertools
import os
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.models.neuron_params import FloatArray


class Spikes(NamedTuple):
    """Rising edges of OUT in order of time: seconds since the start of the call, and neuron."""

    t: FloatArray
    neuron: NDArray[np.int32]


class Lists(NamedTuple):
    """Ascending spike times of several neurons: list j is spikes[offsets[j]:][:counts[j]], of neuron labels[j]."""

    spikes: FloatArray
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    labels: NDArray[np.int64]


def in_threads(part: Callable[[int, int], None], starts: NDArray[np.int64], work: int) -> None:
    """Do part(low, high) for pieces of 0 … len(starts) − 1 that are equal in `starts`; alone where `work` is small."""
    workers = min(4, os.cpu_count() or 1) if work > 50_000 else 1
    if workers == 1:
        part(0, len(starts) - 1)
        return
    shares = starts[-1] * np.arange(1, workers) / workers
    bounds = [0, *np.searchsorted(starts, shares).tolist(), len(starts) - 1]
    threads = [threading.Thread(target=part, args=pair) for pair in itertools.pairwise(bounds[1:])]
    for thread in threads:
        thread.start()
    part(bounds[0], bounds[1])
    for thread in threads:
        thread.join()


def in_order(lists: list[Lists], duration: float) -> Spikes:
    """All spikes of a call of `duration` s, sorted by time."""
    lists = [part for part in lists if part.counts.any()]
    if not lists:
        return Spikes(np.empty(0), np.empty(0, np.int32))
    if len(lists) == 1:
        joined = lists[0]
        if len(joined.labels) == 1:
            n, start = int(joined.counts[0]), int(joined.offsets[0])
            return Spikes(joined.spikes[start : start + n].copy(), np.full(n, joined.labels[0], np.int32))
    else:
        ends = np.cumsum([0] + [part.spikes.size for part in lists])
        joined = Lists(
            np.concatenate([part.spikes for part in lists]),
            np.concatenate([part.offsets[: len(part.counts)] + at for part, at in zip(lists, ends[:-1], strict=True)]),
            np.concatenate([part.counts for part in lists]),
            np.concatenate([part.labels for part in lists]),
        )
    total = int(joined.counts.sum())
    sizes = np.zeros(total // 16384 + 1, np.int64)
    cut = len(sizes) / duration
    tally(joined.spikes, joined.offsets, joined.counts, sizes, cut)
    found = Spikes(np.empty(total), np.empty(total, np.int32))
    starts = np.concatenate(([0], np.cumsum(sizes)))

    def part(low: int, high: int) -> None:
        if low < high:
            here = slice(starts[low], starts[high])
            merge(*joined, sizes, cut, low, high, found.t[here], found.neuron[here])

    in_threads(part, starts, total)
    return found


@njit(cache=True, nogil=True)
def tally(
    t: FloatArray, offsets: NDArray[np.int64], counts: NDArray[np.int64], sizes: NDArray[np.int64], cut: float
) -> None:
    """Count the spikes in each stretch of 1/cut seconds; list j is t[offsets[j]:][:counts[j]]."""
    last = sizes.size - 1
    for j in range(counts.size):
        for i in range(offsets[j], offsets[j] + counts[j]):
            sizes[min(int(t[i] * cut), last)] += 1


@njit(cache=True, nogil=True)
def merge(
    t: FloatArray,
    offsets: NDArray[np.int64],
    counts: NDArray[np.int64],
    labels: NDArray[np.int64],
    sizes: NDArray[np.int64],
    cut: float,
    first: int,
    last: int,
    out_t: FloatArray,
    out_k: NDArray[np.int32],
) -> None:
    """Sort by time the spikes of stretches first … last − 1 of many neurons, each ascending, with their labels.

    A stretch fits a processor's cache. Its spikes are dealt into as many bins as there are spikes, and the bins put in
    order by insertion (or the stretch by sorting, where many spikes fall together).
    """
    bins = np.empty(sizes[first:last].max() + 1, np.int32)
    at = offsets[: counts.size].copy()
    end = sizes.size - 1
    for j in range(counts.size):
        low, high = offsets[j], offsets[j] + counts[j]
        while low < high:
            middle = (low + high) // 2
            if min(int(t[middle] * cut), end) < first:
                low = middle + 1
            else:
                high = middle
        at[j] = low
    base = 0
    for stretch in range(first, last):
        n = sizes[stretch]
        start = stretch / cut
        scale = n * cut
        bins[: n + 1] = 0
        for j in range(counts.size):
            a, stop = at[j], offsets[j] + counts[j]
            while a < stop and (int(t[a] * cut) <= stretch or stretch == end):
                bins[min(max(int((t[a] - start) * scale), 0), n - 1) + 1] += 1
                a += 1
            at[j] = a
        crowded = False
        for i in range(n):
            crowded |= bins[i + 1] > 100
            bins[i + 1] += bins[i]
        for j in range(counts.size):
            a, low, label = at[j] - 1, offsets[j], labels[j]
            while a >= low and min(int(t[a] * cut), end) == stretch:
                b = min(max(int((t[a] - start) * scale), 0), n - 1) + 1
                bins[b] -= 1
                to = base + bins[b]
                out_t[to], out_k[to] = t[a], label
                a -= 1
        if crowded:
            order = np.argsort(out_t[base : base + n], kind="mergesort")
            out_t[base : base + n] = out_t[base : base + n][order]
            out_k[base : base + n] = out_k[base : base + n][order]
            base += n
            continue
        for i in range(base + 1, base + n):
            x = out_t[i]
            if out_t[i - 1] > x:
                k = out_k[i]
                j = i - 1
                while j >= base and out_t[j] > x:
                    out_t[j + 1], out_k[j + 1] = out_t[j], out_k[j]
                    j -= 1
                out_t[j + 1], out_k[j + 1] = x, k
        base += n

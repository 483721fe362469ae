"""Neurons that act on each other: adaptive pairs, shared regulators, chains (Garg et al., Fig. 7)."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import UsageError
from labctl.models.neuron import Biases, LifParams, Neurons, Spikes, ldo_current, pulses
from tests.models.neuron_reference import stepped

SILENT = (np.zeros(1), np.zeros(1))


def test_an_adaptive_neuron_slows_itself_down() -> None:
    """Fig. 7B: threshold 0.6 → 2.0 V, inter-spike interval 2 → 5 ms at 1 kHz pulses, regulator through 10 kΩ.

    Open in the paper and chosen: pulses of 18 µA, 155 µs; V_ref 3.12 V, so that a spike adds 19 mV to the threshold.
    """
    neurons = Neurons(2, biases=Biases(v_thr=np.array([1.2, 4.0]), v_ref=3.12), noise=False)
    neurons.regulate([0], 1, 10e3)
    neurons.watch(1)
    train = pulses(0.0, 1e-3, 155e-6, 18e-6, 1500)
    spikes = neurons.advance_steps(1.5, [train[0], SILENT[0]], [train[1], SILENT[1]])
    assert (spikes.neuron == 0).all()
    isi, threshold = np.diff(spikes.t), neurons.v_mem(1, spikes.t)
    assert threshold[0] == pytest.approx(0.6, abs=1e-3)
    assert threshold.max() == pytest.approx(2.0, rel=0.06)
    assert isi[:3] == pytest.approx(2e-3, rel=0.05)
    assert isi[-20:].mean() == pytest.approx(5e-3, rel=0.05)


def test_one_regulator_shared_by_some_of_a_population() -> None:
    """Fig. 7C: four of six neurons share a regulator: these adapt, and as one; the others keep their rate."""
    n = 7
    biases = Biases(v_thr=np.array([0.8] * 6 + [4.0]), v_ref=3.12)
    neurons = Neurons(n, biases=biases, noise=False)
    neurons.regulate([0, 1, 2, 3], 6)
    current = np.array([8e-6] * 6 + [0.0])
    spikes = neurons.advance(0.5, current)
    alone = Neurons(n, biases=biases, noise=False).advance(0.5, current)
    for k in (4, 5):
        assert spikes.t[spikes.neuron == k] == pytest.approx(alone.t[alone.neuron == k], abs=1e-12)
    rates = []
    for k in range(4):
        isi = np.diff(spikes.t[spikes.neuron == k])
        assert isi[-5:].mean() > 1.5 * isi[:3].mean()
        rates.append(len(isi))
    assert max(rates) - min(rates) <= 1
    assert 6 not in spikes.neuron


numbers = st.builds(Biases, v_pw=st.floats(0.75, 1.1), v_rest=st.floats(0.2, 0.8), v_taun=st.floats(1.0, 1.4))
trains = st.lists(
    st.tuples(st.floats(0, 2e-3), st.one_of(st.just(0.0), st.floats(5e-6, 200e-6))), min_size=1, max_size=6
).map(lambda pairs: tuple(np.array(column) for column in zip(*sorted(pairs), strict=True)))


@settings(max_examples=40, deadline=None)
@given(
    biases=numbers, steps=st.tuples(trains, trains, trains), links=st.sampled_from(["pair", "shared", "chain", "ring"])
)
def test_agrees_with_a_time_stepped_reference(biases: Biases, steps: Any, links: str) -> None:
    """Three neurons in four compositions: spikes within 1 ns, membranes within 1 µV at the end."""
    out_to = {"pair": (2, -1, -1), "shared": (2, 2, -1), "chain": (1, 2, -1), "ring": (1, 2, 0)}[links]
    thr_from = {"pair": (2, -1, -1), "shared": (2, 2, -1), "chain": (-1, -1, -1), "ring": (-1, 0, 1)}[links]
    v_ref = 3.0
    thresholds = np.array([1.0, 0.9, 1.1 if links in ("chain", "ring") else 3.5])
    biases = Biases(
        v_pw=biases.v_pw, v_rest=biases.v_rest, v_taun=biases.v_taun, v_thr=thresholds, v_ref=v_ref
    )  # fmt: skip
    neurons = Neurons(3, biases=biases, noise=False)
    for k in range(3):
        if out_to[k] >= 0:
            neurons.join_output(k, out_to[k], 5e3)
        if thr_from[k] >= 0:
            neurons.take_threshold(k, thr_from[k])
    lists = [(np.concatenate(([0.0], t)), np.concatenate(([0.0], i))) for t, i in steps]
    high = float(ldo_current(3.3, v_ref, 5e3))
    reference = stepped(
        LifParams(), biases, lists, 2e-3, out_to=out_to, thr_from=thr_from,
        i_high=tuple(high if k in out_to else 0.0 for k in range(3)),
    )  # fmt: skip
    found = neurons.advance_steps(2e-3, [t for t, _ in lists], [i for _, i in lists])
    for k in range(3):
        mine = found.t[found.neuron == k]
        theirs = np.array([t for t, j in reference.spikes if j == k])
        assert abs(len(mine) - len(theirs)) <= 1
        m = min(len(mine), len(theirs))
        assert np.abs(mine[:m] - theirs[:m]).max(initial=0.0) < 1e-9
    if len(found.t) == len(reference.spikes) and not (np.abs(found.t - 2e-3) < 1e-6).any():
        assert np.abs(neurons.v - reference.v).max() < 1e-6


@settings(max_examples=30, deadline=None)
@given(biases=numbers, cuts=st.lists(st.floats(0, 4e-3), max_size=5), watched=st.booleans())
def test_how_time_is_cut_into_calls_changes_nothing(biases: Biases, cuts: list[float], watched: bool) -> None:
    def fresh() -> Neurons:
        neurons = Neurons(4, biases=biases, seed=6)
        neurons.regulate([0, 1], 3, 20e3)
        return neurons

    whole, cut = fresh(), fresh()
    if watched:
        for k in range(4):
            cut.watch(k)
    current = np.array([20e-6, 60e-6, 90e-6, 0.0])
    expected = whole.advance(4e-3, current)
    parts = []
    for low, high in itertools.pairwise([0.0, *sorted(cuts), 4e-3]):
        part = cut.advance(high - low, current)
        parts.append(Spikes(part.t + low, part.neuron))
    for k in range(4):
        mine = np.concatenate([part.t[part.neuron == k] for part in parts])
        theirs = expected.t[expected.neuron == k]
        assert len(mine) == len(theirs)
        assert np.abs(mine - theirs).max(initial=0.0) < 1e-9
    if watched:
        t = np.linspace(0, 4e-3, 50)
        assert all(np.isfinite(cut.v_mem(k, t)).all() for k in range(4))
        mine = np.sort(np.concatenate([part.t[part.neuron == 0] for part in parts]))
        if len(mine):
            assert (cut.out_wave(0, mine[:-1] + 1e-8) == 3.3).all()


def test_outputs_on_one_pad_are_a_wired_or() -> None:
    """Two outputs high at once drive what one drives; the pad's own current counts if it is more."""
    biases = Biases(v_thr=np.array([0.4, 0.4, 5.0]), v_ref=3.0, v_pw=0.6)
    neurons = Neurons(3, biases=biases, noise=False)
    neurons.join_output(0, 2, 10e3)
    neurons.join_output(1, 2, 10e3)
    neurons.advance(2e-3, [50e-6, 50e-6, 0.0])
    one = Neurons(3, biases=biases, noise=False)
    one.join_output(0, 2, 10e3)
    one.advance(2e-3, [50e-6, 50e-6, 0.0])
    assert neurons.out[:2].all()
    assert neurons.v[2] == pytest.approx(one.v[2], abs=1e-9)
    more = Neurons(3, biases=biases, noise=False)
    more.join_output(0, 2, 10e3)
    more.advance(2e-3, [50e-6, 50e-6, 100e-6])
    plain = Neurons(3, biases=biases, noise=False)
    plain.advance(2e-3, [50e-6, 50e-6, 100e-6])
    assert more.v[2] == pytest.approx(plain.v[2], abs=1e-12)


def test_a_switch_that_opens_gives_pad_and_threshold_back() -> None:
    biases = Biases(v_thr=np.array([0.4, 1.2]), v_ref=3.0, v_pw=0.5)
    neurons = Neurons(2, biases=biases, noise=False)
    neurons.join_output(0, 1, 5e3)
    neurons.take_threshold(1, 0)
    neurons.advance(1e-3, [50e-6, 0.0])
    assert neurons.out[0]
    neurons.join_output(0, None)
    neurons.take_threshold(1, None)
    assert not neurons.connects([True, False])
    before = neurons.v[1]
    quiet = neurons.advance_steps(1e-4, np.zeros(0), np.zeros(0))
    assert not quiet.t.size
    assert neurons.v[1] <= before
    saved = Neurons(2, biases=biases, noise=False)
    saved.join_output(0, 1, 5e3)
    other = Neurons(2, biases=biases, noise=False)
    other.restore(saved.state())
    assert other.connects([True, False])


def test_links_are_checked() -> None:
    neurons = Neurons(2)
    with pytest.raises(UsageError, match="there is no neuron 2"):
        neurons.join_output(0, 2)
    with pytest.raises(UsageError, match="there is no neuron -1"):
        neurons.take_threshold(-1, 0)
    assert not neurons.connects([True, False])

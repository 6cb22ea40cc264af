"""Features against scipy.signal, closed forms and loops."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib import features


def noise(size, seed=0):
    return np.random.default_rng(seed).normal(size=size)


@given(st.integers(2, 40), st.integers(1, 40), st.integers(0, 100), st.integers(0, 9))
def test_frames_by_a_loop(width, hop, more, seed):
    wave = noise(width + more, seed)
    found = features.frames(wave, width, hop)
    starts = [s for s in range(0, len(wave), hop) if s + width <= len(wave)]
    assert np.array_equal(found, [wave[s : s + width] for s in starts])
    assert np.array_equal(features.centres(len(found), width, hop), np.array(starts) + width // 2)


@given(st.integers(4, 64), st.integers(1, 30), st.integers(0, 200), st.integers(0, 9))
def test_stft_equals_scipy(width, hop, more, seed):
    wave = noise(width + more, seed)
    hop = min(hop, width)
    window = scipy.signal.get_window("hann", width)  # periodic
    _, _, theirs = scipy.signal.stft(
        wave, window=window, nperseg=width, noverlap=width - hop, boundary=None, padded=False
    )
    found = features.stft(wave, width, hop)
    # scipy divides by the sum of the window
    assert np.allclose(found, theirs.T * window.sum(), rtol=0, atol=1e-12 * width)
    assert np.allclose(features.hann(width), window, rtol=0, atol=1e-15)


def test_stft_of_a_cosine_in_closed_form():
    """A Hann window spreads a cosine of a whole number of periods over three bins."""
    width, k = 64, 9
    wave = np.cos(2 * np.pi * k * np.arange(200) / width)
    found = features.stft(wave, width, 16)
    for t in range(len(found)):
        shift = np.exp(2j * np.pi * k * 16 * t / width)
        expected = np.zeros(width // 2 + 1, complex)
        expected[[k - 1, k, k + 1]] = shift * width * np.array([-1, 2, -1]) / 8
        assert np.allclose(found[t], expected, atol=1e-12)


def test_energy_is_that_of_parseval():
    wave, width = noise(300), 32
    found = np.abs(features.stft(wave, width, 8)) ** 2
    both = 2 * found.sum(1) - found[:, 0] - found[:, -1]  # the other half of the spectrum
    windowed = features.frames(wave, width, 8) * features.hann(width)
    assert np.allclose(both / width, (windowed**2).sum(1))


def test_mel_scale():
    assert features.mel(0) == 0
    assert features.mel(1000) == pytest.approx(1000, abs=0.02)  # what the constants are made for
    f = np.array([0.0, 55.5, 700, 4000])
    assert np.allclose(features.hertz(features.mel(f)), f)
    assert features.mel(700) == pytest.approx(2595 * np.log10(2))


@given(st.integers(1, 20), st.sampled_from([200, 256, 401]), st.sampled_from([0.0, 60.0, 300.0]))
def test_filters_are_triangles(count, width, low):
    found = features.mel_filters(count, width, 8000, low)
    corners = features.hertz(np.linspace(features.mel(low), features.mel(4000), count + 2))
    bins = np.arange(width // 2 + 1) * 8000 / width
    for m, row in enumerate(found):
        expected = np.interp(bins, corners[m : m + 3], [0, 1, 0], left=0, right=0)
        assert np.allclose(row, expected)
    between = (bins >= corners[1]) & (bins <= corners[-2])
    assert np.allclose(found.sum(0)[between], 1)  # neighbours share out every bin


def test_log_mel_by_a_loop():
    wave, rate = 0.1 * noise(1000), 8000
    found = features.log_mel(wave, rate, count=12)
    filters = features.mel_filters(12, 200, rate, 60)
    assert found.shape == (1 + (1000 - 200) // 80, 12)
    for t, row in enumerate(found):
        piece = wave[80 * t : 80 * t + 200] * scipy.signal.get_window("hann", 200)
        power = [
            abs(np.sum(piece * np.exp(-2j * np.pi * k * np.arange(200) / 200))) ** 2 / 200
            for k in range(101)
        ]
        assert np.allclose(row, np.log(filters @ power + 1e-10))


def test_silence_is_the_floor_and_loudness_a_constant():
    assert np.all(features.log_mel(np.zeros(400), 8000, floor=1e-6) == np.log(1e-6))
    wave = noise(800)
    louder = features.log_mel(10 * wave, 8000) - features.log_mel(wave, 8000)
    assert np.allclose(louder, np.log(100), atol=1e-6)


def test_a_tone_is_in_the_filter_around_it():
    corners = features.hertz(np.linspace(features.mel(60), features.mel(4000), 22))
    for m in (3, 9, 15):
        tone = np.sin(2 * np.pi * corners[m + 1] * np.arange(800) / 8000)
        assert set(features.log_mel(tone, 8000).argmax(1)) == {m}


def test_deltas():
    line = np.outer(np.arange(9.0), [1, -2]) + 5
    assert np.allclose(features.deltas(line, 2)[2:-2], [1, -2])
    x = noise((7, 3))
    rows = np.vstack([x[:1], x[:1], x, x[-1:], x[-1:]])
    slopes = [np.polyfit(range(5), rows[t : t + 5], 1)[0] for t in range(7)]
    assert np.allclose(features.deltas(x, 2), slopes)


def test_stack():
    x = np.arange(4.0)[:, None]
    expected = [[0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [0, 1, 2, 3, 3], [1, 2, 3, 3, 3]]
    assert np.array_equal(features.stack(x, 2), expected)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: features.frames(np.zeros(5), 6, 2), ValueError, r"wave: .* n >= 6, got \(5,\)"),
        (lambda: features.frames(np.zeros((9, 2)), 6, 2), ValueError, r"wave: .* got \(9, 2\)"),
        (lambda: features.frames(np.zeros(9), 6, 0), ValueError, "hop: expected at least 1, got 0"),
        (lambda: features.frames(np.zeros(9), 6.0, 1), TypeError, "width: expected an integer"),
        (lambda: features.mel_filters(60, 64, 8000), ValueError, "count: expected less than 60"),
        (lambda: features.mel_filters(9, 64, 8000, 500, 400), ValueError, "low, high: .* 500, 400"),
        (lambda: features.mel_filters(9, 64, 8000, 0, 4001), ValueError, "<= 4000"),
        (lambda: features.mel_filters(9, 64, 0), ValueError, "rate: expected a number above 0"),
        (lambda: features.log_mel(np.zeros(400), 8000, floor=0), ValueError, "floor"),
        (lambda: features.deltas(np.zeros((4, 2)), 0), ValueError, "reach"),
        (lambda: features.stack(np.zeros((4, 2)), 0), ValueError, "reach"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()

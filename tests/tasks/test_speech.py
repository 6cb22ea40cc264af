"""Synthetic speech: the language, the alignment, pitch, formants and noise of what is heard."""

import numpy as np
import pytest

from lstm_lib.tasks import speech
from lstm_lib.tasks.speech import PHONES, RATE, Speaker

CLEAN = {"snr": (60.0, 60.0)}
PLAIN = Speaker(pitch=125.0, scale=1.0, duration=0.1)


def drawn(seed=0, count=60, voices=None, **options):
    rng = np.random.default_rng(seed)
    return speech.utterances(rng, count, voices or speech.speakers(rng, 5), **options)


def parts(found, letter):
    """The middle of every phone of that letter, as samples."""
    for wave, labels, spans in zip(found.waves, found.labels, found.spans, strict=True):
        for label, (start, stop) in zip(labels, spans, strict=True):
            if PHONES[label - 1] == letter:
                third = (stop - start) // 3
                yield wave[start + third : stop - third]


def spectrum(pieces, size=512):
    """Mean power of pieces, and the frequency of each bin."""
    power = [np.abs(np.fft.rfft(piece * np.hanning(len(piece)), size)) ** 2 for piece in pieces]
    return np.fft.rfftfreq(size, 1 / RATE), np.mean(power, 0)


def share(pieces, low, high):
    """Share of the power that lies between two frequencies."""
    f, power = spectrum(pieces)
    return power[(f >= low) & (f < high)].sum() / power.sum()


def test_the_same_seed_gives_the_same_speech():
    one, two, other = drawn(0, 5), drawn(0, 5), drawn(1, 5)
    assert all(np.array_equal(a, b) for a, b in zip(one.waves, two.waves, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(one.labels, two.labels, strict=True))
    assert not np.array_equal(one.waves[0][:400], other.waves[0][:400])


def test_shapes_types_and_spans():
    found = drawn(phones=(2, 4))
    assert len(found.waves) == len(found.labels) == len(found.spans) == len(found.speakers) == 60
    assert set(map(len, found.labels)) == {2, 3, 4}
    assert set(found.speakers.tolist()) == set(range(5))
    for wave, labels, spans in zip(found.waves, found.labels, found.spans, strict=True):
        assert wave.dtype == np.float32 and wave.ndim == 1 and np.abs(wave).max() < 2
        assert labels.dtype == spans.dtype == np.int64
        assert spans.shape == (len(labels), 2)
        assert labels.min() >= 1 and labels.max() <= len(PHONES)
        assert spans[0, 0] > 0 and spans[-1, 1] < len(wave)
        assert np.array_equal(spans[1:, 0], spans[:-1, 1])
        assert (spans[:, 1] - spans[:, 0]).min() >= 0.04 * RATE


def test_the_language_follows_its_bigrams():
    table = speech.bigrams()
    assert table.shape == (11, 10) and np.allclose(table.sum(1), 1)
    counts = np.zeros((11, 10))
    for labels in drawn(3, 600, phones=(3, 8), snr=(20.0, 20.0)).labels:
        for a, b in zip([0, *labels[:-1]], labels, strict=True):
            counts[a, b - 1] += 1
    total = counts.sum(1, keepdims=True)
    error = (table * (1 - table) / total) ** 0.5
    assert (np.abs(counts / total - table) < 4.5 * error).all()  # 110 numbers, 4.5 sigma
    assert np.trace(counts[1:]) > 0  # a phone can follow itself


def test_speech_is_where_the_alignment_says():
    found = drawn(**CLEAN)
    for wave, spans in zip(found.waves, found.spans, strict=True):
        outside = np.r_[wave[: spans[0, 0] - 200], wave[spans[-1, 1] + 400 :]]
        inside = wave[spans[0, 0] : spans[-1, 1]]
        assert np.mean(outside**2) < 0.001 * np.mean(inside**2)


def test_equal_neighbours_have_a_gap():
    found = drawn(1, 300, [PLAIN], **CLEAN)
    seen = 0
    for wave, labels, spans in zip(found.waves, found.labels, found.spans, strict=True):
        for k in np.flatnonzero((labels[1:] == labels[:-1]) & (labels[1:] <= speech.VOWELS)):
            edge = spans[k, 1]
            dip = np.mean(wave[edge - 140 : edge - 60] ** 2)
            around = np.mean(wave[spans[k, 0] : spans[k + 1, 1]] ** 2)
            assert dip < 0.3 * around
            seen += 1
    assert seen > 20


@pytest.mark.parametrize("pitch", [100.0, 200.0])
def test_the_pitch_is_heard(pitch):
    voice = Speaker(pitch, 1.0, 0.2)
    found = drawn(0, 20, [voice], phones=(2, 2), **CLEAN)
    periods = []
    for piece in parts(found, "a"):
        piece = piece - piece.mean()
        same = np.correlate(piece, piece, "full")[len(piece) - 1 :]
        low, high = int(RATE / pitch * 0.8), int(RATE / pitch * 1.25)
        periods.append(low + same[low:high].argmax())
    assert len(periods) > 2
    assert RATE / np.median(periods) == pytest.approx(pitch, rel=0.12)  # it falls from 1.1 to 0.9


def test_phones_have_their_formants():
    found = drawn(0, 200, [PLAIN], **CLEAN)
    for letter, first in (("a", 730), ("i", 280), ("u", 320), ("e", 530), ("o", 500)):
        f, power = spectrum(parts(found, letter))
        peak = f[power[f < 1000].argmax()]
        assert peak == pytest.approx(first, abs=130)  # harmonics lie 125 Hz apart
    assert share(parts(found, "s"), 2000, 4000) > 0.85
    assert share(parts(found, "m"), 0, 700) > 0.85
    front, back = (share(parts(found, letter), 1500, 3500) for letter in "iu")
    assert front > 5 * back


def test_a_shorter_vocal_tract_raises_the_formants():
    peaks = []
    for scale in (0.8, 1.25):
        found = drawn(0, 200, [Speaker(100.0, scale, 0.15)], **CLEAN)
        f, power = spectrum(parts(found, "a"))
        band = power[f < 1200]
        peaks.append((f[f < 1200] * band).sum() / band.sum())
    assert peaks[1] / peaks[0] == pytest.approx(1.25 / 0.8, rel=0.15)


def test_signal_to_noise_ratio():
    for wanted in (0.0, 20.0):
        found = drawn(0, 40, snr=(wanted, wanted))
        ratios = []
        for wave, spans in zip(found.waves, found.spans, strict=True):
            noise = np.mean(np.r_[wave[: spans[0, 0] - 200], wave[spans[-1, 1] + 400 :]] ** 2)
            both = np.mean(wave[spans[0, 0] : spans[-1, 1]] ** 2)
            ratios.append(10 * np.log10(both / noise - 1))
        assert np.median(ratios) == pytest.approx(wanted, abs=0.7)


def test_speakers():
    found = speech.speakers(np.random.default_rng(0), 500)
    pitch, scale, duration = np.array(found).T
    assert 0.8 <= scale.min() < 0.82 and 1.23 < scale.max() <= 1.25
    assert duration.min() >= 0.065 and duration.max() <= 0.13
    detune = np.log2(pitch / 150) - 2 * np.log2(scale)
    assert -0.25 <= detune.min() < -0.23 and 0.23 < detune.max() <= 0.25


def test_slow_speakers_are_slow():
    spans = [np.concatenate(drawn(0, 40, [Speaker(120.0, 1.0, d)]).spans) for d in (0.065, 0.13)]
    fast, slow = (np.mean(np.diff(span, axis=1)) for span in spans)
    assert slow / fast == pytest.approx(2, rel=0.1)


def test_positions():
    spans = np.array([[4, 6], [6, 9]])
    expected = [-1, -1, -1, -1, 0, 0, 1, 1, 1, -1, -1]
    assert speech.positions(spans, np.arange(11)).tolist() == expected


def test_text():
    assert speech.text([8, 1, 6]) == "s a m"
    assert speech.text([]) == ""
    for bad in ([0], [11]):
        with pytest.raises(ValueError, match=r"labels: expected 1..10"):
            speech.text(bad)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"rng": 0}, TypeError, "rng: expected a numpy.random.Generator"),
        ({"count": 0}, ValueError, "count: expected at least 1"),
        ({"voices": []}, ValueError, "voices: expected at least one Speaker"),
        ({"phones": (4, 3)}, ValueError, r"phones: expected the fewest, .* got \(4, 3\)"),
        ({"phones": (0, 3)}, ValueError, "phones: expected at least 1"),
        ({"snr": (9, 3)}, ValueError, r"snr: expected the lowest, .* got \(9, 3\)"),
    ],
)
def test_bad_arguments(change, error, message):
    good = {"rng": np.random.default_rng(0), "count": 1, "voices": [PLAIN]}
    with pytest.raises(error, match=message):
        speech.utterances(**good | change)


def test_bad_arguments_of_speakers():
    with pytest.raises(TypeError, match="rng"):
        speech.speakers(0, 3)
    with pytest.raises(ValueError, match="count"):
        speech.speakers(np.random.default_rng(0), 0)

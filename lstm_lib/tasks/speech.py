"""Synthetic speech: utterances of a ten-phone language, by speakers who differ.

The synthesiser is a source and a filter, as in formant synthesisers since the 1960s. The *source*
is a train of pulses at the pitch of the speaker (the vocal cords) and white noise (air that is
forced through a gap). The *filter* is three resonators beside each other (the vocal tract), whose
frequencies, the *formants*, tell the phones apart:

    y_n = a x_n + 2 r cos(w) y_{n-1} - r^2 y_{n-2},   r = exp(-pi B / rate),  w = 2 pi F / rate,

with formant F and bandwidth B in Hz, and a such that the gain at F is 1. Its numbers change every
5 ms and glide from phone to phone, so that a phone sounds different after each neighbour, and a
short one does not reach its target (coarticulation).

What makes it hard: a shorter vocal tract multiplies all formants by the `scale` of the speaker, so
that one speaker's /e/ has the second formant of another one's /i/; rates differ; there is noise.

Labels are 1 .. 10 for `PHONES`; 0 is left free for silence in an alignment and for the blank of
CTC.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lstm_lib.scratch.functions import check_rng, check_size

RATE = 8000
"""Samples a second."""

PHONES = "aeioumnsft"
"""The phones: five vowels, two nasals, two fricatives and a stop; label k + 1 is PHONES[k]."""

VOWELS = 5
"""The first so many of `PHONES` are vowels."""

_CONTROL = RATE // 200  # samples between two changes of the filter: 5 ms
# Formants in Hz, gains in dB, voice, noise. Vowels: near the means of Peterson & Barney (1952) for
# men. The upper end is 4 kHz here, so the hiss of an /s/ is lower than in life.
_TARGETS = {
    "a": ((730, 1090, 2440), (0, -4, -18), 1.0, 0.0),
    "e": ((530, 1840, 2480), (0, -8, -14), 1.0, 0.0),
    "i": ((280, 2250, 2890), (0, -12, -14), 1.0, 0.0),
    "o": ((500, 880, 2400), (0, -4, -22), 1.0, 0.0),
    "u": ((320, 870, 2240), (0, -10, -26), 1.0, 0.0),
    "m": ((260, 1000, 2200), (0, -20, -28), 0.6, 0.0),
    "n": ((260, 1500, 2500), (0, -20, -26), 0.6, 0.0),
    "s": ((2400, 2900, 3500), (-14, -4, 0), 0.0, 0.25),
    "f": ((1100, 2100, 3300), (-6, -4, -4), 0.0, 0.08),
    "t": ((1700, 2600, 3300), (-8, 0, -4), 0.0, 0.40),
}
_CLOSED = 0.6  # share of a stop that is silence, before its burst
_BANDWIDTH = {"voice": (70.0, 100.0, 140.0), "noise": (300.0, 300.0, 400.0)}
_GLIDE, _EDGE = 0.06, 0.015  # s: how long formants take to change, and amplitudes
_GAP = 0.025  # s of silence between two equal phones
_GROUP = 256  # utterances that are synthesised side by side


class Speaker(NamedTuple):
    """A voice.

    Attributes
    ----------
    pitch : float
        Pulses a second of the vocal cords, Hz.
    scale : float
        Factor of all formants: above 1 for a vocal tract shorter than the reference.
    duration : float
        Mean length of a phone, s.
    """

    pitch: float
    scale: float
    duration: float


class Utterances(NamedTuple):
    """N spoken phone strings.

    Attributes
    ----------
    waves : list of N ndarrays of float32
        Samples at `RATE`; lengths differ.
    labels : list of N ndarrays of int64
        What is said: 1 .. 10.
    spans : list of N ndarrays of int64, shape (phones, 2)
        First sample of each phone and the one after its last: the true alignment. A phone ends
        where the next begins. Before the first and after the last is silence.
    speakers : ndarray of int64, shape (N,)
        Number of the speaker in the list that was given.
    """

    waves: list[np.ndarray]
    labels: list[np.ndarray]
    spans: list[np.ndarray]
    speakers: np.ndarray


def speakers(rng: np.random.Generator, count: int) -> list[Speaker]:
    """Draw voices: scale from U[0.8, 1.25], pitch 90 to 260 Hz, phones of 65 to 130 ms.

    Short vocal tracts come with high voices: log2(pitch / 150) is 2 log2(scale) plus a number
    from U[-0.25, 0.25].

    Raises
    ------
    TypeError, ValueError
        If `rng` is no Generator or `count` no integer above 0.
    """
    check_rng(rng)
    count = check_size(count, "count")
    scale = rng.uniform(0.8, 1.25, count)
    pitch = 150 * scale**2 * 2 ** rng.uniform(-0.25, 0.25, count)
    duration = rng.uniform(0.065, 0.13, count)
    return [Speaker(*map(float, voice)) for voice in zip(pitch, scale, duration, strict=True)]


def bigrams() -> np.ndarray:
    """The language: P(next phone | phone), shape (11, 10); row 0 is for the first phone.

    After a vowel comes a consonant with probability 0.75, after a consonant a vowel with 0.85, at
    the start either; which one is uniform. So a phone can follow itself.
    """
    vowel = np.array([0.5, *[0.25] * VOWELS, *[0.85] * (len(PHONES) - VOWELS)])
    share = np.stack([vowel / VOWELS, (1 - vowel) / (len(PHONES) - VOWELS)], 1)
    return np.repeat(share, [VOWELS, len(PHONES) - VOWELS], axis=1)


def utterances(
    rng: np.random.Generator,
    count: int,
    voices: Sequence[Speaker],
    *,
    phones: tuple[int, int] = (3, 8),
    snr: tuple[float, float] = (10.0, 30.0),
) -> Utterances:
    """Draw phone strings and speak them.

    Parameters
    ----------
    rng : numpy.random.Generator
    count : int
        N.
    voices : sequence of Speaker
        Each utterance has one of them, all equally likely.
    phones : (int, int)
        Fewest and most phones of an utterance; every number between is equally likely.
    snr : (float, float)
        Ratio of the power of the speech to that of white noise, dB: drawn uniformly from this
        range for each utterance.

    Returns
    -------
    Utterances

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type, `count` is below 1, `voices` is empty, or a range is none.
    """
    check_rng(rng)
    count = check_size(count, "count")
    if not len(voices):
        raise ValueError("voices: expected at least one Speaker, got none")
    if check_size(phones[0], "phones") > check_size(phones[1], "phones"):
        raise ValueError(f"phones: expected the fewest, then the most, got {phones}")
    if not snr[0] <= snr[1]:
        raise ValueError(f"snr: expected the lowest, then the highest, got {snr}")
    who = rng.integers(len(voices), size=count)
    labels = [_sentence(rng, int(rng.integers(phones[0], phones[1] + 1))) for _ in range(count)]
    spans = [_timing(rng, voices[k], said) for k, said in zip(who, labels, strict=True)]
    waves = []
    for start in range(0, count, _GROUP):
        part = slice(start, start + _GROUP)
        waves += _speak(rng, [voices[k] for k in who[part]], labels[part], spans[part], snr)
    return Utterances(waves, labels, [inside for inside, _ in spans], who)


def positions(spans: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Which phone of an utterance each sample lies in: 0 .. phones - 1, or -1 for silence.

    Parameters
    ----------
    spans : ndarray of int64, shape (phones, 2)
        As in `Utterances`.
    samples : ndarray of int64, shape (T,)
        For the alignment of frames: the sample in the middle of each.

    Returns
    -------
    ndarray of int64, shape (T,)
    """
    samples = np.asarray(samples)
    found = np.searchsorted(spans[:, 0], samples, side="right") - 1
    return np.where((found >= 0) & (samples < spans[found, 1]), found, -1)


def text(labels: Sequence[int]) -> str:
    """Labels 1 .. 10 as letters with blanks between: ``"s a m"``.

    Raises
    ------
    ValueError
        If a label is not in 1 .. 10.
    """
    if len(labels) and not (min(labels) >= 1 and max(labels) <= len(PHONES)):
        raise ValueError(f"labels: expected 1..{len(PHONES)}, got {list(labels)}")
    return " ".join(PHONES[k - 1] for k in labels)


def _sentence(rng, size):
    """Labels of one phone string, drawn from the bigrams."""
    table = bigrams()
    said = [0]
    for _ in range(size):
        said.append(1 + int(rng.choice(len(PHONES), p=table[said[-1]])))
    return np.array(said[1:], np.int64)


def _timing(rng, voice, said):
    """Spans of the phones in samples, multiples of 5 ms, and the length of the whole."""
    seconds = voice.duration * np.exp(rng.normal(0, 0.25, len(said)))
    before, after = rng.uniform(0.05, 0.15, 2)
    steps = np.maximum(np.round(np.array([before, *seconds, after]) * RATE / _CONTROL), 8)
    edges = np.cumsum(steps).astype(np.int64) * _CONTROL
    return np.stack([edges[:-2], edges[1:-1]], 1), int(edges[-1])


def _smooth(values, seconds):
    """Mean over a Hann window of that length; values (control steps, ...), its ends repeated."""
    half = max(1, round(seconds * RATE / _CONTROL / 2))
    window = np.hanning(2 * half + 3)[1:-1]
    padded = np.pad(values, [(half, half)] + [(0, 0)] * (values.ndim - 1), mode="edge")
    rows = np.lib.stride_tricks.sliding_window_view(padded, len(window), axis=0)
    return rows @ (window / window.sum())


def _controls(voice, said, spans, length):
    """Formants, gains, voice and noise of one utterance, for each control step: (steps, 8)."""
    steps = length // _CONTROL
    table = np.array(
        [[*formants, *gains, *levels] for formants, gains, *levels in _TARGETS.values()], float
    )
    where = np.clip(np.searchsorted(spans[:, 0], _CONTROL * np.arange(steps), "right") - 1, 0, None)
    values = table[said - 1][where]
    values[:, :3] *= voice.scale
    loud = np.zeros(steps)
    for k, (start, stop) in enumerate(spans // _CONTROL):
        first = start + round(_CLOSED * (stop - start)) if PHONES[said[k] - 1] == "t" else start
        again = k + 1 < len(said) and said[k + 1] == said[k]
        loud[first : stop - again * round(_GAP * RATE / _CONTROL)] = 1
    values[:, 6:] *= loud[:, None]
    return np.concatenate([_smooth(values[:, :6], _GLIDE), _smooth(values[:, 6:], _EDGE)], 1)


def _speak(rng, voices, labels, spans, snr):
    """Waves of some utterances, synthesised side by side."""
    lengths = [length for _, length in spans]
    steps = max(lengths) // _CONTROL
    control = np.zeros((steps, len(voices), 8))
    control[:, :, :3] = 1000.0
    pulses = np.zeros((max(lengths), len(voices)))
    for k, (voice, said, (inside, length)) in enumerate(zip(voices, labels, spans, strict=True)):
        control[: length // _CONTROL, k] = _controls(voice, said, inside, length)
        bend = np.linspace(1.1, 0.9, length) * (1 + 0.02 * rng.normal())
        phase = np.cumsum(voice.pitch * bend / RATE) + rng.random()
        pulses[:length, k] = np.diff(np.floor(phase), prepend=0.0) > 0
        pulses[:length, k] *= (RATE / voice.pitch) ** 0.5  # of power 1
    sources = {"voice": pulses, "noise": rng.normal(size=pulses.shape)}
    total = 0.0
    for column, (kind, source) in enumerate(sources.items(), 6):
        level = np.repeat(control[:, :, column], _CONTROL, axis=0)
        total = total + _resonate(source * level, control, np.array(_BANDWIDTH[kind]))
    waves = []
    for k, (inside, length) in enumerate(spans):
        wave = total[:length, k]
        power = np.mean(wave[inside[0, 0] : inside[-1, 1]] ** 2)
        ratio = 10 ** (rng.uniform(*snr) / 10)
        noisy = wave + rng.normal(0, (power / ratio) ** 0.5, length)
        waves.append((0.1 * noisy / power**0.5).astype(np.float32))
    return waves


def _resonate(source, control, bandwidth):
    """Sum of the three resonators: source (samples, N), control (steps, N, 8) -> (samples, N)."""
    r = np.exp(-np.pi * bandwidth / RATE)
    w = 2 * np.pi * np.minimum(control[:, :, :3], 0.47 * RATE) / RATE
    peak = (1 - r) * np.sqrt(1 - 2 * r * np.cos(2 * w) + r**2)
    a, b, c = peak * 10 ** (control[:, :, 3:6] / 20), 2 * r * np.cos(w), -(r**2)
    out = np.empty_like(source)
    y = before = np.zeros(w.shape[1:])
    for n, x in enumerate(source):
        step = n // _CONTROL
        y, before = a[step] * x[:, None] + b[step] * y + c * before, y
        out[n] = y.sum(1)
    return out

"""From a sound to a sequence of vectors: frames, short-time Fourier transform, log-mel features.

    frame_t = x[t H : t H + W] * window                                             (frames)
    X_t[k] = sum_n frame_t[n] exp(-2 pi i k n / W)                                  (stft)
    mel(f) = 2595 log10(1 + f / 700)                                                (mel)
    F_t[m] = log(e + sum_k filter_m[k] |X_t[k]|^2)                                  (log-mel)

with a window of W samples moved by a hop of H. NumPy only; the Fourier transform itself is
`numpy.fft`.
"""

import numpy as np

from lstm_lib.scratch.functions import check_positive, check_size


def hann(width):
    """The periodic Hann window, 1/2 - 1/2 cos(2 pi n / W), n = 0 .. W - 1: shape (W,)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(check_size(width, "width")) / width)


def frames(wave, width, hop):
    """Cut a sound into overlapping pieces.

    Parameters
    ----------
    wave : array_like, shape (n,)
        Samples.
    width, hop : int
        Samples of a frame, W, and from one frame to the next, H.

    Returns
    -------
    ndarray, shape (T, W)
        T = 1 + (n - W) // H; what does not fill a frame at the end is left out. A read-only view.

    Raises
    ------
    TypeError, ValueError
        If `width` or `hop` is no integer above 0, or the sound is shorter than a frame.
    """
    width, hop = check_size(width, "width"), check_size(hop, "hop")
    wave = np.asarray(wave)
    if wave.ndim != 1 or len(wave) < width:
        raise ValueError(f"wave: expected shape (n,) with n >= {width}, got {wave.shape}")
    return np.lib.stride_tricks.sliding_window_view(wave, width)[::hop]


def centres(count, width, hop):
    """The sample in the middle of each of `count` frames: shape (count,), int64."""
    return np.arange(count) * hop + width // 2


def stft(wave, width, hop):
    """Short-time Fourier transform with a Hann window (stft).

    Parameters
    ----------
    wave, width, hop
        As in `frames`.

    Returns
    -------
    ndarray of complex128, shape (T, W // 2 + 1)
        Bin k is the frequency k * rate / W.

    Raises
    ------
    As `frames`.
    """
    pieces = frames(np.asarray(wave, np.float64), width, hop) * hann(width)  # (frames)
    return np.fft.rfft(pieces)  # (stft)


def mel(hertz):
    """Frequency in mel, a scale on which equal steps sound about equally large."""
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)  # (mel)


def hertz(mel):
    """Frequency in Hz: the inverse of `mel`."""
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)


def mel_filters(count, width, rate, low=0.0, high=None):
    """Triangles of height 1 whose corners are evenly spaced in mel.

    Triangle m rises from corner m to corner m + 1 and falls to corner m + 2, of count + 2 corners
    from `low` to `high`.

    Parameters
    ----------
    count : int
        Number of triangles, M.
    width : int
        W of the transform.
    rate : float
        Samples a second.
    low, high : float
        Hz; `high` is half of `rate` by default.

    Returns
    -------
    ndarray, shape (M, W // 2 + 1)

    Raises
    ------
    TypeError, ValueError
        If a number is out of range, or a triangle is so narrow that it has no bin: then take
        fewer triangles or a wider window.
    """
    count, width = check_size(count, "count"), check_size(width, "width")
    check_positive(rate, "rate")
    high = rate / 2 if high is None else high
    if not 0 <= low < high <= rate / 2:
        raise ValueError(f"low, high: expected 0 <= low < high <= {rate / 2}, got {low}, {high}")
    corners = hertz(np.linspace(mel(low), mel(high), count + 2))
    bins = np.arange(width // 2 + 1) * rate / width
    left, middle, right = (corners[k : k + count, None] for k in range(3))
    rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
    filters = np.clip(np.minimum(rising, falling), 0, None)
    if not filters.any(1).all():
        raise ValueError(f"count: expected less than {count} filters for {width // 2 + 1} bins")
    return filters


def log_mel(wave, rate, *, width=0.025, hop=0.01, count=20, low=60.0, floor=1e-10):
    """Log-mel features of a sound (log-mel).

    Parameters
    ----------
    wave : array_like, shape (n,)
        Samples in -1 .. 1.
    rate : float
        Samples a second.
    width, hop : float
        Of the frames, in seconds.
    count : int
        M, number of mel filters, from `low` Hz to half of `rate`.
    floor : float
        e, the energy that is added before the logarithm: it must not see 0.

    Returns
    -------
    ndarray of float64, shape (T, M)

    Raises
    ------
    As `frames` and `mel_filters`.
    """
    check_positive(floor, "floor")
    width, hop = round(width * rate), round(hop * rate)
    power = np.abs(stft(wave, width, hop)) ** 2 / width
    return np.log(floor + power @ mel_filters(count, width, rate, low).T)  # (log-mel)


def deltas(features, reach=2):
    """Slope of each feature over time: least squares through 2 `reach` + 1 frames.

    At the ends the first and the last frame are repeated.

    Parameters
    ----------
    features : array_like, shape (T, M)
    reach : int

    Returns
    -------
    ndarray, shape (T, M)
    """
    reach = check_size(reach, "reach")
    offsets = np.arange(-reach, reach + 1)
    rows = np.pad(features, [(reach, reach), (0, 0)], mode="edge")
    pieces = np.lib.stride_tricks.sliding_window_view(rows, len(offsets), axis=0)
    return pieces @ (offsets / (offsets**2).sum())


def stack(features, reach):
    """Each frame with its `reach` neighbours on either side, side by side: (T, (2 reach + 1) M).

    At the ends the first and the last frame are repeated.
    """
    reach = check_size(reach, "reach")
    rows = np.pad(features, [(reach, reach), (0, 0)], mode="edge")
    return np.concatenate([rows[k : k + len(features)] for k in range(2 * reach + 1)], 1)

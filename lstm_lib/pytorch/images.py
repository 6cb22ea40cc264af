"""Pictures for three kinds of models: read piece by piece, convolved, or as a flat vector.

Pictures come flat, (B, S * S) for S rows of S pixels, row after row, so that one array serves all
models. `StripReader` is for pictures of one height and different widths, which come as columns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstm_lib.pytorch.cells import check_bool, check_count
from lstm_lib.pytorch.classifier import SequenceClassifier
from lstm_lib.pytorch.tagger import SequenceTagger

POOLINGS = ("flatten", "mean", "max")
"""How a map of features becomes one vector."""


class PictureReader(SequenceClassifier):
    """A `SequenceClassifier` that reads a picture in pieces of `width` numbers.

        x_t = (p[(t - 1) D], ..., p[t D - 1])                                         (img-steps)

    With D = `width` = S it reads an S x S picture by rows, with D = 1 pixel by pixel.

    Parameters
    ----------
    width, classes, hidden : int
        D numbers of a step, C classes, H units in each direction.
    **options
        As `SequenceClassifier`: `cell`, `bidirectional`, `pooling`, `dropout`, `generator`.

    Raises
    ------
    TypeError, ValueError
        As `SequenceClassifier`.
    """

    def __init__(self, width: int, classes: int, hidden: int, **options) -> None:
        check_count("width", width, 1)
        super().__init__(None, classes, hidden, embedding=width, **options)

    def forward(self, pictures: Tensor) -> Tensor:
        """Class scores (B, C) of flat pictures (B, N); N must be a multiple of the width.

        Raises
        ------
        ValueError
            If N is no such number.
        """
        return super().forward(self.sequence(pictures))

    def sequence(self, pictures: Tensor) -> Tensor:
        """The pieces of pictures (B, N), (N / D, B, D): what the layer reads."""
        width = self.layer.input_size
        if pictures.dim() != 2 or pictures.shape[1] % width:
            raise ValueError(
                f"pictures must have shape (B, a multiple of {width}), got {tuple(pictures.shape)}"
            )
        return pictures.unflatten(1, (-1, width)).transpose(0, 1)  # (img-steps)


class ConvNet(nn.Module):
    """A small convolutional network.

        a = max-pool(relu(K_1 * p + k_1)), 2 x 2 to 1
        b = relu(K_2 * a + k_2)                                                       (img-conv)
        p(class | picture) = softmax(W pool(b) + bias)                                (img-pool)

    ``*`` is the convolution with kernels of 3 x 3 and zeros around the picture, so that the maps
    keep their size.

    Parameters
    ----------
    side, classes, channels : int
        S, even; C classes; number of kernels of each of the two layers.
    pooling : one of `POOLINGS`
        All S/2 x S/2 places side by side, or the mean or maximum of each channel over them.

    Attributes
    ----------
    first, second : nn.Conv2d, readout : nn.Linear to C

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of those listed.
    """

    def __init__(self, side: int, classes: int, channels: int, *, pooling: str = "flatten") -> None:
        super().__init__()
        for name, value in (("side", side), ("classes", classes), ("channels", channels)):
            check_count(name, value, 1)
        if side % 2:
            raise ValueError(f"side must be even, got {side}")
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {POOLINGS}, got {pooling!r}")
        self.side, self.pooling = side, pooling
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        places = (side // 2) ** 2 if pooling == "flatten" else 1
        self.readout = nn.Linear(channels * places, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Class scores (B, C) of flat pictures (B, S * S).

        Raises
        ------
        ValueError
            If they have another size.
        """
        if pictures.dim() != 2 or pictures.shape[1] != self.side**2:
            raise ValueError(
                f"pictures must have shape (B, {self.side**2}), got {tuple(pictures.shape)}"
            )
        a = F.max_pool2d(F.relu(self.first(pictures.unflatten(1, (1, self.side, -1)))), 2)
        b = F.relu(self.second(a)).flatten(2)  # (img-conv)
        if self.pooling == "flatten":
            pooled = b.flatten(1)
        else:
            pooled = b.mean(2) if self.pooling == "mean" else b.amax(2)
        return self.readout(pooled)  # (img-pool)


class StripReader(nn.Module):
    """Class scores at every column of pictures of different widths, by convolutions.

        a = max-pool(relu(K_2 * relu(K_1 * x + k_1) + k_2)), 2 rows to 1
        s_t = bidirectional LSTM and readout of the column a_t, or K_4 * relu(K_3 * a + k_3) + k_4

    K_1 and K_2 are 3 x 3, K_3 and K_4 run along the columns and are 9 and 5 wide: without the LSTM
    a score has seen 17 columns. Zeros stand around each picture, whatever else is in the batch.

    Parameters
    ----------
    height, classes, channels, hidden : int
        D, even, the pixels of a column; K classes; kernels of the first two layers; units of
        each direction of the LSTM, or kernels of the third layer.
    recurrent : bool

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of those listed.
    """

    def __init__(
        self, height: int, classes: int, channels: int, hidden: int, *, recurrent: bool
    ) -> None:
        super().__init__()
        sizes = {"height": height, "classes": classes, "channels": channels, "hidden": hidden}
        for name, value in sizes.items():
            check_count(name, value, 1)
        if height % 2:
            raise ValueError(f"height must be even, got {height}")
        check_bool("recurrent", recurrent)
        self.height = height
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        size = channels * height // 2
        self.tagger = None
        if recurrent:
            self.tagger = SequenceTagger(size, classes, hidden, bidirectional=True)
        else:
            self.third = nn.Conv1d(size, hidden, 9, padding=4)
            self.readout = nn.Conv1d(hidden, classes, 5, padding=2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Scores (T, B, K) of columns x (T, B, D) of pictures of `lengths` (B,) columns.

        Raises
        ------
        ValueError
            If x has another shape.
        """
        if x.dim() != 3 or x.shape[2] != self.height:
            raise ValueError(f"x must have shape (T, B, {self.height}), got {tuple(x.shape)}")
        inside = torch.arange(len(x), device=x.device) < lengths[:, None].to(x.device)
        inside = inside[:, None, None].to(x.dtype)  # (B, 1, 1, T)
        a = F.relu(self.first(x.permute(1, 2, 0)[:, None] * inside)) * inside
        a = F.max_pool2d(F.relu(self.second(a)) * inside, (2, 1)).flatten(1, 2)
        if self.tagger is not None:
            return self.tagger(a.permute(2, 0, 1), lengths)
        b = F.relu(self.third(a)) * inside[:, 0]
        return self.readout(b).permute(2, 0, 1)


def multiplications(model: nn.Module, pixels: int) -> int:
    """Multiplications of weights with numbers, to classify one picture.

    Biases, gates and activations are not counted: they are few.

    Parameters
    ----------
    model : PictureReader or ConvNet
    pixels : int
        N of the picture.

    Raises
    ------
    TypeError
        If the model is another one.
    """
    if isinstance(model, PictureReader):
        step = sum(p.numel() for p in model.layer.parameters() if p.dim() == 2)
        before = pixels // model.layer.input_size * step
    elif isinstance(model, ConvNet):
        before = pixels * model.first.weight.numel() + pixels // 4 * model.second.weight.numel()
    else:
        raise TypeError(f"model must be PictureReader or ConvNet, got {type(model).__name__}")
    return before + model.readout.weight.numel()


def moved(pictures: Tensor, down: int, right: int) -> Tensor:
    """Square flat pictures (B, S * S), moved by whole pixels; what comes in is 0.

    What goes over the edge is lost: pad the pictures first, as by `padded`.
    """
    side = round(pictures.shape[1] ** 0.5)
    maps = pictures.unflatten(1, (side, side))
    out = torch.zeros_like(maps)
    rows, columns = (slice(max(0, n), side + min(0, n)) for n in (down, right))
    from_rows, from_columns = (slice(max(0, -n), side + min(0, -n)) for n in (down, right))
    out[:, rows, columns] = maps[:, from_rows, from_columns]
    return out.flatten(1)


def padded(pictures: Tensor, margin: int) -> Tensor:
    """Square flat pictures with `margin` rows and columns of zeros on each side."""
    side = round(pictures.shape[1] ** 0.5)
    return F.pad(pictures.unflatten(1, (side, side)), [margin] * 4).flatten(1)

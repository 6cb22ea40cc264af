"""From an image to a sentence: a small convolutional encoder, and what writes about its grid.

Shapes: B images of 3 channels, S = R * C places of a grid, H hidden size, V tokens, T tokens
written.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lstm_lib.pytorch.attention import LuongAttention
from lstm_lib.pytorch.cells import check_bool, check_count
from lstm_lib.pytorch.layers import LSTM
from lstm_lib.pytorch.seq2seq import ATTENTIONS, Decoder

STRIDE = 8
"""Pixels of an image on a side for each place of the grid."""


class GridEncoder(nn.Module):
    """A convolutional network that leaves a vector at every place of a grid.

        k_s = relu(CNN(4 image - 1)_s + p_s)                                     (cap-keys)

    Three convolutions, each of stride 2, with a relu between them; so a place is `STRIDE` pixels
    high and wide, and sees 3 pixels beyond its edges. p_s says where the place is, and is learned:
    without it a mean over the places could not tell left from right. Pixels in 0 .. 1 are spread
    to -1 .. 3, and the convolutions start with He's initialisation for a relu: a smaller signal
    would leave the decoder to learn the language first, and the image late.

    Parameters
    ----------
    hidden : int
        H.
    grid : (int, int)
        R rows and C columns.
    channels : (int, int)
        Of the two convolutions before the last.

    Raises
    ------
    TypeError, ValueError
        If a size is no int or below 1.
    """

    def __init__(
        self, hidden: int, grid: tuple[int, int] = (2, 2), channels: tuple[int, int] = (16, 32)
    ) -> None:
        super().__init__()
        for name, sizes in (("hidden", (hidden,)), ("grid", grid), ("channels", channels)):
            for size in sizes:
                check_count(name, size, 1)
        self.grid = tuple(grid)
        first, second = channels
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, first, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, second, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, hidden, 2, stride=2),
        )
        for module in self.convolutions:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.position = nn.Parameter(torch.zeros(grid[0] * grid[1], 1, hidden))

    def forward(self, images: Tensor) -> Tensor:
        """Keys (S, B, H), in reading order, of images (B, 3, 8 R, 8 C).

        Raises
        ------
        ValueError
            If the images have another shape.
        """
        size = (3, *(STRIDE * n for n in self.grid))
        if images.dim() != 4 or images.shape[1:] != size:
            raise ValueError(
                f"images must have shape (B, {', '.join(map(str, size))}), "
                f"got {tuple(images.shape)}"
            )
        places = self.convolutions(4 * images - 1).flatten(2).permute(2, 0, 1)
        return (places + self.position).relu()  # (cap-keys)


class Captioner(Decoder):
    """An LSTM writes about an image, and may look at its places.

    The decoder, whose equations `Decoder` gives, starts from one vector of all places,

        [h_0, c_0] = W [k_1 .. k_S] + b                                          (cap-start)

    and without attention that is all it gets. (A tanh here would hold h_0 and c_0 within -1 .. 1,
    and a decoder without attention may then hardly learn.)

    Parameters
    ----------
    vocab, hidden : int
        V and H.
    attention : one of `ATTENTIONS`
        As for `EncoderDecoder`: none, as in Vinyals et al.; "bahdanau", as in Xu et al.; "luong".
    grid, channels
        As for `GridEncoder`.
    embedding : int, optional
        E of the words; by default H.
    dropout : float in [0, 1]
        Of `LockedDropout`, on the embeddings and on what the readout reads.
    layer : class
        `LSTM` of this package or of `torch.nn`.
    generator : torch.Generator, optional
        Source of the dropout masks; torch's global one if left out.

    Attributes
    ----------
    encoder : GridEncoder, start : nn.Linear
        And those of `Decoder`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of those listed.

    References
    ----------
    Vinyals, Toshev, Bengio and Erhan (2015), who give the image to the LSTM as its first input;
    Xu et al. (2015), whose soft attention starts from the mean of the places.
    """

    def __init__(
        self,
        vocab: int,
        hidden: int,
        *,
        attention: str | None = None,
        grid: tuple[int, int] = (2, 2),
        channels: tuple[int, int] = (16, 32),
        embedding: int | None = None,
        dropout: float = 0.0,
        layer: type[nn.Module] = LSTM,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        embedding = hidden if embedding is None else embedding
        for name, value in (("vocab", vocab), ("hidden", hidden), ("embedding", embedding)):
            check_count(name, value, 1)
        if attention not in ATTENTIONS:
            raise ValueError(f"attention must be one of {ATTENTIONS}, got {attention!r}")
        self.encoder = GridEncoder(hidden, grid, channels)
        self.start = nn.Linear(grid[0] * grid[1] * hidden, 2 * hidden)
        self._add_decoder(vocab, hidden, attention, embedding, dropout, layer, generator)

    def encode(self, source: Tensor) -> dict[str, Tensor]:
        """Look at the images.

        Parameters
        ----------
        source : Tensor, shape (B, 3, 8 R, 8 C)

        Returns
        -------
        dict
            As in `Decoder.encode`; ``"mask"`` is True everywhere.

        Raises
        ------
        ValueError
            If the images have another shape.
        """
        keys = self.encoder(source)
        start = self.start(keys.transpose(0, 1).flatten(1))  # (cap-start)
        h, c = start[None].chunk(2, -1)
        return self._state(h, c, keys, keys.new_ones(keys.shape[:2], dtype=torch.bool))


class SlotClassifier(nn.Module):
    """The captioner without its decoder: one softmax for each slot of a template.

    The same encoder, a hidden layer, and for each slot j, whatever the other slots say,

        v = tanh(W [k_1 .. k_S] + b)
        plain          scores_j = W_j v + b_j                                    (cap-slot)
        with a look    scores_j = W_j tanh(W_c [q_j, context_j]) + b_j           (cap-slot-look)

    where q_j = tanh(Q_j v) and the context is that of `LuongAttention`.

    Parameters
    ----------
    classes : sequence of int
        Choices of each slot.
    hidden : int
        H.
    look : bool
        One look at the places for each slot.
    grid, channels
        As for `GridEncoder`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of those listed.
    """

    def __init__(
        self,
        classes: Sequence[int],
        hidden: int,
        *,
        look: bool = False,
        grid: tuple[int, int] = (2, 2),
        channels: tuple[int, int] = (16, 32),
    ) -> None:
        super().__init__()
        for count in classes:
            check_count("classes", count, 1)
        check_bool("look", look)
        self.encoder = GridEncoder(hidden, grid, channels)
        self.start = nn.Linear(grid[0] * grid[1] * hidden, hidden)
        self.heads = nn.ModuleList(nn.Linear(hidden, count) for count in classes)
        self.attention = LuongAttention(hidden, hidden) if look else None
        if look:
            self.queries = nn.ModuleList(nn.Linear(hidden, hidden) for _ in classes)
            self.combine = nn.Linear(2 * hidden, hidden)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Scores of every slot, each (B, choices), of images (B, 3, 8 R, 8 C).

        Raises
        ------
        ValueError
            If the images have another shape.
        """
        keys = self.encoder(images)
        v = self.start(keys.transpose(0, 1).flatten(1)).tanh()
        if self.attention is None:
            return [head(v) for head in self.heads]  # (cap-slot)
        query = torch.stack([query(v).tanh() for query in self.queries])
        mask = keys.new_ones(keys.shape[:2], dtype=torch.bool)
        context, _ = self.attention(query, keys, mask)
        read = self.combine(torch.cat([query, context], -1)).tanh()
        return [head(r) for head, r in zip(self.heads, read, strict=True)]  # (cap-slot-look)

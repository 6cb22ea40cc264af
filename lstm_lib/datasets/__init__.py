"""Real data sets by name, checked and parsed into plain lists and arrays.

>>> from lstm_lib import datasets
>>> datasets.names()
['chinese-poetry', 'chnsenticorp', ...]
>>> datasets.info("ptb").local_only
True
>>> datasets.load("ptb").train[:3]
['aer', 'banknote', 'berlitz']

Files are looked for in the folder that the environment variable ``LSTM_BOOK_DATA`` names, then
in the user's cache, then downloaded (by pooch, from the extra ``chapters``). Their SHA-256 is
checked every time. No data comes with the package, and sets whose `Info.local_only` is true
must not be passed on.
"""

from .archives import unpack
from .fetch import DataNotFoundError, read
from .parsers import PARSERS
from .records import (
    Chunked,
    Images,
    Labelled,
    Parallel,
    Poem,
    Proposition,
    Recordings,
    Sentence,
    Series,
    Splits,
)
from .registry import File, Info, info, names

__all__ = [
    "Chunked",
    "DataNotFoundError",
    "File",
    "Images",
    "Info",
    "Labelled",
    "Parallel",
    "Poem",
    "Proposition",
    "Recordings",
    "Sentence",
    "Series",
    "Splits",
    "info",
    "load",
    "names",
]

_shown = set()


def load(name: str, *, quiet: bool = False):
    """Find, check and parse a data set.

    What comes back, with official splits (`Splits`) where there are any; ``info(name).note``
    says where there are none, and what else to know:

    =====================  ================================================================
    ``ptb``                Splits of lists of words, with ``"<eos>"`` at every line's end
    ``wikitext-2``         the same
    ``tinyshakespeare``    one str
    ``makemore-names``     list of str
    ``names-by-language``  dict of language to list of str
    ``cmudict``            dict of word to list of pronunciations, each a tuple of phonemes
    ``chinese-poetry``     dict of ``"tang300"`` and ``"yuanqu"`` to list of `Poem`
    ``multi30k``           Splits of `Parallel` (en, de, fr), with two more test sets
    ``tatoeba-en-fr``      one `Parallel`
    ``tatoeba-en-zh``      one `Parallel`, with attribution
    ``rt-polarity``        one `Labelled`
    ``sst2``               Splits of `Labelled`
    ``chnsenticorp``       Splits of `Labelled`
    ``ud-english-ewt``     Splits of lists of `Sentence`
    ``up-english-ewt``     Splits of lists of `Sentence` with propositions
    ``conll2000``          Splits of lists of `Chunked`; no valid
    ``mnist``              Splits of `Images`; no valid
    ``fsdd``               Splits of `Recordings`; no valid
    ``jsb-chorales``       Splits of lists of chorales; a chorale is a list of chords, a chord
                           a list of MIDI notes, empty in a rest
    ``etth1``              one `Series`
    ``exchange-rate``      one `Series` without dates
    ``sp500-daily``        one `Series`
    ``sunspots-yearly``    one `Series`
    ``jbrownlee-series``   dict of ``"airline-passengers"``, ``"monthly-sunspots"`` and
                           ``"daily-min-temperatures"`` to `Series`
    =====================  ================================================================

    Parameters
    ----------
    name : str
        One of `names`.
    quiet : bool
        By default the first use of a data set in a process prints one line with its source and
        licence, and a download shows its progress; True leaves both out.

    Raises
    ------
    ValueError
        If there is no such data set, or a file in ``$LSTM_BOOK_DATA`` is not what it should be.
    DataNotFoundError
        A FileNotFoundError, if the data is nowhere and cannot be downloaded; it says where to
        put it.
    NotADirectoryError
        If ``$LSTM_BOOK_DATA`` is set, and is not a folder.
    """
    about = info(name)
    files = {}
    for file, data in read(about, quiet).items():
        files |= unpack(file.path.rpartition("/")[2], data, file.unpacked)
    if not quiet and name not in _shown:
        _shown.add(name)
        print(about.notice)
    return PARSERS[name](files)

"""How often each way of decoding gives an acceptable text: the comparison of chapter 5.1b, larger.

    python experiments/decoding_rates.py            # about 4 minutes on one core
    python experiments/decoding_rates.py --quick    # seconds: one text of each start, 60 long

The character LSTM that comes with the book writes 40 texts of 400 characters after each of 64
starts, with every setting on the same random numbers. A text is accepted if all its whole lines
are legal, there is at least one statement, and it repeats itself no more than 95 % of the held-out
functions and classes do. The result decoding_rates of lstm_lib.results is what the chapter shows;
with --quick it goes to the work folder instead.
"""

import argparse
import re
import time
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from lstm_lib import results
from lstm_lib.char_model import load_char_model
from lstm_lib.generation import legality, repetition
from lstm_lib.pytorch import LanguageModel, decoding
from lstm_lib.tasks import stdlib_text

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "tau 0.5": {"temperature": 0.5},
    "tau 0.75": {"temperature": 0.75},
    "tau 1.0": {},
    "top 5": {"top_k": 5},
    "nucleus 0.88": {"top_p": 0.88},
}
VERBS = ("check", "find", "get", "make", "parse", "read", "set", "write")
NOUNS = ("file", "header", "line", "module", "name", "option", "path", "value")
STARTS = [f"def {verb}_{noun}(" for verb in VERBS for noun in NOUNS]
RUN = 20  # characters of the runs that repetition counts
ROUND = 8  # texts of each start that are written side by side
SEED = 100  # the chapter uses 0


@torch.no_grad()
def read(model):
    """The state before the last character of every start, after two blank lines; and the last."""
    ids = [torch.tensor(stdlib_text.encode("\n\n\n" + start))[:, None] for start in STARTS]
    states = [model(x[:-1])[1] for x in ids]
    state = tuple(torch.cat(parts, 1) for parts in zip(*states, strict=True))
    return state, torch.cat([x[-1] for x in ids])


def repetition_limit(length):
    """The 95 % quantile of the repetition of held-out functions and classes."""
    text = "".join(stdlib_text.load(split).text for split in ("valid", "test"))
    places = [found.end() for found in re.finditer(r"\n\n\n(?=def |class )", text)]
    whole = [text[p : p + length] for p in places if p + length <= len(text)]
    return float(np.quantile([repetition(part, RUN) for part in whole], 0.95))


def measure(texts, limit):
    """Of every text: accepted, all lines legal, any statement, repetition."""
    rows = []
    for text in texts:
        found, again = legality(text), repetition(text, RUN)
        legal, says = found.all_legal, found.statements > 0
        rows.append((legal and says and again <= limit, legal, says, again))
    return np.array(rows, float)


def main(argv=None):
    """Run the comparison with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short text of each start")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "decoding_rates")
    options = parser.parse_args(argv)
    draws, length = (1, 60) if options.quick else (40, 400)
    begun = time.perf_counter()
    model = LanguageModel.from_char_model(load_char_model()[0]).eval()
    state, first = read(model)
    limit = repetition_limit(length)
    generator = torch.Generator().manual_seed(SEED)
    rows, bits = {name: [] for name in SETTINGS}, {name: [] for name in SETTINGS}
    for done in tqdm(range(0, draws, ROUND)):
        which = torch.arange(len(STARTS)).repeat(min(ROUND, draws - done))
        uniforms = torch.rand(length, len(which), generator=generator, dtype=torch.float64)
        for name, setting in SETTINGS.items():
            out = decoding.sample(
                model.step,
                decoding.select(state, which),
                first[which],
                uniforms=uniforms,
                **setting,
            )
            texts = [
                (STARTS[k] + stdlib_text.decode(column))[:length]
                for k, column in zip(which.tolist(), out.tokens.T.numpy(), strict=True)
            ]
            rows[name].append(measure(texts, limit))
            bits[name].append(-out.log_p.numpy() / length / np.log(2))
    metrics = {}
    for name in SETTINGS:
        found = np.concatenate(rows[name])
        _, legal, says, again = found.mean(0).round(4).tolist()
        metrics[name] = {
            "accepted": int(found[:, 0].sum()),
            "texts": len(found),
            "legal": legal,
            "with_statement": says,
            "repetition": again,
            "bits_per_character": round(float(np.concatenate(bits[name]).mean()), 3),
        }
        print(name, metrics[name])
    results.save(
        "decoding_rates",
        config={
            "settings": SETTINGS,
            "draws": draws,
            "length": length,
            "run": RUN,
            "repetition_limit": round(limit, 4),
        },
        seed=SEED,
        versions={"corpus_sha256": stdlib_text.corpus_hash()},
        seconds=time.perf_counter() - begun,
        metrics=metrics,
        folder=options.work if options.quick else results.FOLDER,
    )


if __name__ == "__main__":
    main()

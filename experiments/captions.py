"""Captions of generated scenes: the stored tables of chapter 5.8.

    python experiments/captions.py            # about six minutes on one core
    python experiments/captions.py --quick    # two updates each, to see that it works

Every model has the same encoder and sees the same scenes; `Captioner` and `SlotClassifier` of
lstm_lib. The questions, one group of rows each:

models    a decoder without attention, with it, and slots
captions  the caption of a training scene is drawn from all that are true, not always the first
order     the noun before its colour
left out  how many of the 16 pairs of colour and shape the training set lacks
squashed  a tanh on the vector that the decoder starts from
grid      nine places in place of four
data      twice the scenes and the updates
others    Bahdanau's attention; slots that look at the places

For each kind of model one tuning seed picks the rate of `RATES` with the most exact captions on
validation scenes, in the groups "models" and "others"; the other groups take these rates. Three
other seeds measure each model on new scenes of pairs seen in training, and on scenes with a pair
that was left out.

Every finished run is a file in the work folder, and a run that stands there is not made again, so
the script can be stopped and started. Each group becomes the result captions/GROUP of
lstm_lib.results; with --quick they go to the work folder.
"""

import argparse
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import sacrebleu
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from lstm_lib import results
from lstm_lib.pytorch import Captioner, SlotClassifier, Trainer, forget_bias_, seeded
from lstm_lib.pytorch.decoding import greedy
from lstm_lib.tasks import scenes
from lstm_lib.train import Batches
from lstm_lib.vocabulary import END, PAD, START, Vocabulary, pair_batch

ROOT = Path(__file__).resolve().parents[1]
RATES = [0.003, 0.006]
TUNING_SEED = 100
SETTINGS = {"scenes": 4000, "tests": 500, "batch_size": 64, "updates": 600, "seeds": [0, 1, 2]}
QUICK = SETTINGS | {"scenes": 100, "tests": 20, "updates": 2, "seeds": [0, 1]}
HIDDEN = 64
BASE = {"out": 4, "captions": "one", "grid": 2, "longer": 1}
VOCABULARY = Vocabulary(scenes.WORDS)
CLASSES = [len(choices) for choices in scenes.CHOICES.values()]

KINDS = {
    "no attention": {"attention": None},
    "Luong": {"attention": "luong"},
    "Bahdanau": {"attention": "bahdanau"},
    "slots": {"look": False},
    "slots that look": {"look": True},
}
TUNED = ("models", "others")
"""Groups in which every kind of model chooses its rate."""


def rows_of(names, **changes):
    return {name: BASE | KINDS[name] | changes for name in names}


MAIN = ("no attention", "Luong", "slots")
GROUPS = {
    "models": rows_of(MAIN),
    "captions": rows_of(("Luong", "slots"), captions="any"),
    "order": rows_of(("Luong",), noun_first=True),
    "left out": {
        f"{name}, {out}": BASE | KINDS[name] | {"out": out}
        for out in (8, 12)
        for name in ("Luong", "slots")
    },
    "squashed": rows_of(("no attention",), squashed=True),
    "grid": rows_of(MAIN, grid=3, longer=1.5),
    "data": rows_of(("Luong", "slots"), longer=2),
    "others": rows_of(("Bahdanau", "slots that look")),
}
"""Settings of each model; "longer" multiplies the updates, and the scenes with them from 2 on."""


class Squashed(Captioner):
    """It starts from tanh(W [k_1 .. k_S] + b)."""

    def encode(self, source):
        state = super().encode(source)
        return state | {"h": state["h"].tanh(), "c": state["c"].tanh()}


@lru_cache(maxsize=8)
def drawn(seed, count, out, grid, held=False):
    """Scenes and their images (N, 3, 8 grid, 8 grid)."""
    left = scenes.held_out(out)
    seen = [pair for pair in scenes.PAIRS if pair not in left]
    rng = np.random.default_rng(seed)
    made = scenes.draw(rng, count, seen, needs=left if held else None, grid=grid)
    images = scenes.render(rng, made, grid=grid)
    return made, torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


class Data:
    """Training rows and test scenes of one model."""

    def __init__(self, model, settings):
        self.model = model
        self.noun_first = model.get("noun_first", False)
        more = model["longer"] if model["longer"] >= 2 else 1
        made, images = drawn(0, settings["scenes"] * more, model["out"], model["grid"])
        rng = np.random.default_rng(5)
        self.train = [
            (image, *self.numbers(self.caption(scene, rng)))
            for scene, image in zip(made, images, strict=True)
        ]
        tests = settings["tests"]
        self.sets = {
            name: drawn(seed, tests, model["out"], model["grid"])
            for seed, name in ((1, "valid"), (2, "seen"))
        }
        if model["out"]:
            self.sets["held"] = drawn(3, tests, model["out"], model["grid"], held=True)

    def references(self, scene):
        return scenes.references(scene, noun_first=self.noun_first)

    def caption(self, scene, rng):
        """What the scene is called in the training set."""
        true = self.references(scene)
        return true[0 if self.model["captions"] == "one" else rng.integers(len(true))]

    def numbers(self, words):
        """Token numbers, and those of the slots: -100 where the sentence has none."""
        said = scenes.parse(words, noun_first=self.noun_first)
        pairs = zip(said, scenes.CHOICES.values(), strict=True)
        return VOCABULARY.encode(words), [c.index(s) if s in c else -100 for s, c in pairs]


def collate(rows):
    images, ids, slots = zip(*rows, strict=True)
    _, inputs, targets = pair_batch([([1], words) for words in ids])
    return torch.stack(images), *map(torch.from_numpy, (inputs, targets)), torch.tensor(slots)


def loss_of(model, batch):
    """Cross-entropy of the words, or the sum of those of the slots."""
    images, inputs, targets, slots = batch
    if isinstance(model, SlotClassifier):
        return sum(F.cross_entropy(s, slots[:, j]) for j, s in enumerate(model(images)))
    scores = model(images, inputs).flatten(0, 1)
    return F.cross_entropy(scores, targets.flatten(), ignore_index=PAD)


def write(model, images, noun_first=False):
    """One sentence for each image."""
    with torch.no_grad():
        if isinstance(model, SlotClassifier):
            chosen = torch.stack([s.argmax(1) for s in model(images)], 1).tolist()
            choices = list(scenes.CHOICES.values())
            said = [
                scenes.Slots(*(c[k] for k, c in zip(row, choices, strict=True))) for row in chosen
            ]
            return [scenes.sentence(slots, noun_first=noun_first) for slots in said]
        first = torch.full((len(images),), START)
        written = greedy(model.step, model.encode(images), first, length=10, end=END)
    return [tuple(VOCABULARY.decode(column)) for column in written.tokens.T.tolist()]


def build(model, seed):
    with seeded(seed):
        options = {"grid": (model["grid"],) * 2}
        if "look" in model:
            return SlotClassifier(CLASSES, HIDDEN, look=model["look"], **options)
        make = Squashed if model.get("squashed") else Captioner
        net = make(len(VOCABULARY), HIDDEN, attention=model["attention"], **options)
        forget_bias_(net.decoder, 1.0)
        return net


def train(data, rate, seed, settings):
    """Return the network, and the share of exact captions on the validation scenes."""
    net = build(data.model, seed)
    batches = Batches(data.train, settings["batch_size"], seed=seed, collate=collate)
    adam = torch.optim.Adam(net.parameters(), rate)
    trainer = Trainer(net, adam, loss_of, batches, max_norm=1.0)
    trainer.fit(int(settings["updates"] * data.model["longer"]), progress=False)
    return net.eval(), measured(net, data, "valid")["exact"]


def measured(net, data, name):
    """Exact captions, BLEU, and which slots are wrong on one of the test sets."""
    made, images = data.sets[name]
    texts = write(net, images, data.noun_first)
    true = [data.references(scene) for scene in made]
    right = [text in references for text, references in zip(texts, true, strict=True)]
    wrong = [
        scenes.wrong_slots(scene, text, noun_first=data.noun_first)
        for scene, text in zip(made, texts, strict=True)
    ]
    return {
        "exact": float(np.mean(right)),
        "bleu": bleu(texts, true),
        "no sentence": float(np.mean([slots is None for slots in wrong])),
        "wrong": {
            slot: float(np.mean([slots is not None and slot in slots for slots in wrong]))
            for slot in scenes.Slots._fields
        },
    }


def bleu(texts, references):
    """BLEU-4 of sacrebleu, 0 .. 100, with all references."""
    most = max(map(len, references))
    columns = [[" ".join(r[k]) if k < len(r) else None for r in references] for k in range(most)]
    texts = [" ".join(text) for text in texts]
    return sacrebleu.corpus_bleu(texts, columns, tokenize="none", force=True).score


def looked(net, data, name="seen"):
    """Share of the attention that lies on the object being named, by kind of word.

    The scenes are those with two unlike objects, the sentence the first reference. "colour" and
    "shape" are the weights from which that word was said; "other" the share on the other object.
    """
    pairs = [p for p in zip(*data.sets[name], strict=True) if len(data.references(p[0])) > 1]
    made, images = zip(*pairs, strict=True)
    sentences = [data.references(scene)[0] for scene in made]
    _, inputs, _ = pair_batch([([1], VOCABULARY.encode(words)) for words in sentences])
    with torch.no_grad():
        weights = net.align(torch.stack(images), torch.from_numpy(inputs)).numpy()
    grid = data.model["grid"]
    shares = {"colour": [], "shape": [], "colour, other": [], "shape, other": []}
    for b, (scene, words) in enumerate(zip(made, sentences, strict=True)):
        cells = scenes.cells_named(scene, words, noun_first=data.noun_first)
        for t, (word, named) in enumerate(zip(words, cells, strict=True)):
            kind = "colour" if word in scenes.COLOURS else "shape"
            if named and word not in scenes.NUMBERS:
                for thing in scene:
                    cell = thing.row, thing.column
                    which = kind if cell in named else f"{kind}, other"
                    shares[which].append(float(weights[t, b, cell[0] * grid + cell[1]]))
    return {which: float(np.mean(values)) for which, values in shares.items()}


def study(group, name, rate, settings, work):
    """One row of the table: tuned if no rate is given, then three seeds."""
    model = GROUPS[group][name]
    data = Data(model, settings)
    made_with = {"model": model, "settings": settings, "hidden": HIDDEN}
    made_with |= {"versions": results.current_versions()}

    def run(rate, seed):
        def make():
            began = time.process_time()
            net, valid = train(data, rate, seed, settings)
            row = {"seed": seed, "valid": valid}
            row |= {part: measured(net, data, part) for part in data.sets if part != "valid"}
            if model.get("attention") is not None:
                row["looked"] = looked(net, data)
            return row | {"seconds": time.process_time() - began}

        file = f"{group}, {name}, {rate}, seed {seed}.json"
        return results.kept(work / file, made_with | {"rate": rate, "seed": seed}, make)

    tuning = None
    if rate is None:
        tuning = {str(r): run(r, TUNING_SEED)["valid"] for r in RATES}
        rate = max(RATES, key=lambda r: tuning[str(r)])
    runs = [run(rate, seed) for seed in settings["seeds"]]
    return {"model": name, **model, "rate": rate, "tuning": tuning, "runs": runs}


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two updates each")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "captions")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # the tensors are small, and the sums are then always the same
    settings = QUICK if options.quick else SETTINGS
    work = options.work / ("quick" if options.quick else "runs")
    rates = {}
    for group, models in tqdm(GROUPS.items()):
        rows = []
        for name in models:
            rate = None if group in TUNED else rates[name.split(",")[0]]
            row = study(group, name, rate, settings, work)
            rates.setdefault(name, row["rate"])
            rows.append(row)
            shown = [f"{run['seen']['exact']:.3f}" for run in row["runs"]]
            print(group, name, row["rate"], *shown, flush=True)
        results.save(
            f"captions/{group}",
            config=settings | {"hidden": HIDDEN, "rates": RATES},
            seed={"tuning": TUNING_SEED, "final": settings["seeds"]},
            metrics={"rows": rows},
            seconds=sum(run["seconds"] for row in rows for run in row["runs"]),
            folder=options.work if options.quick else results.FOLDER,
        )


if __name__ == "__main__":
    main()

"""The translation script: it can be stopped, all models get the same, BLEU is what it should be."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lstm_lib import datasets, results
from lstm_lib.datasets.records import Parallel, Splits
from lstm_lib.pytorch import EncoderDecoder
from lstm_lib.vocabulary import PAD

ROOT = Path(__file__).resolve().parents[1]
WORDS = {
    "a": "ein",
    "dog": "hund",
    "cat": "kater",
    "sees": "sieht",
    "bird": "vogel",
    "red": "roter",
}


def captions(seed, count):
    """Rows of words, and each word's translation in the same order."""
    rng = np.random.default_rng(seed)
    made = [rng.choice(list(WORDS), rng.integers(3, 20)) for _ in range(count)]
    german = [[WORDS[word] for word in words] for words in made]
    return Parallel(
        {
            "en": [" ".join(words).capitalize() + "." for words in made],
            "de": [" ".join(words).capitalize() + "." for words in german],
        }
    )


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import multi30k as script

    made = Splits(captions(0, 200), captions(1, 60), captions(2, 60))
    monkeypatch.setattr(datasets, "load", lambda name: made)
    monkeypatch.setattr(script, "SEEDS", [0])
    for name, value in {"hidden": 8, "embedding": 8, "length": 25}.items():
        monkeypatch.setitem(script.QUICK, name, value)
    return script


def test_a_stopped_run_goes_on_to_the_same_result(script, tmp_path, monkeypatch):
    real, calls = script.translate, []

    def translate(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(script, "translate", translate)
    whole, parts = (["--quick", "--work", str(tmp_path / name)] for name in ("whole", "parts"))
    with pytest.raises(KeyboardInterrupt):
        script.main(parts)
    assert len(results.names(tmp_path / "parts")) > 0
    script.main(parts)
    # One translation was broken off, and no finished run was made again.
    assert len(calls) == 1 + len(script.ATTENTIONS)
    script.main(whole)
    for attention in ("luong", "none", "bahdanau"):
        one, other = (
            results.load(f"multi30k/{attention}-0", tmp_path / name) for name in ("whole", "parts")
        )
        assert one["metrics"] == other["metrics"]
        assert one["curve"] == other["curve"]


def test_all_models_get_the_same_but_their_attention(script, tmp_path):
    script.main(["--quick", "--work", str(tmp_path)])
    found = [results.load(f"multi30k/{name}-0", tmp_path) for name in ("luong", "none", "bahdanau")]
    configs = [{k: v for k, v in r["config"].items() if k != "attention"} for r in found]
    assert configs[0] == configs[1] == configs[2]
    assert [r["config"]["attention"] for r in found] == ["luong", None, "bahdanau"]
    for result in found:
        losses = result["metrics"]["tuning"]
        assert result["metrics"]["rate"] == float(min(losses, key=losses.get))
        for how in ("greedy", "beam"):
            assert sum(result["metrics"][how]["sentences"]) == 60


def test_bleu_is_100_for_the_references_and_less_for_a_wrong_word(script):
    pairs = script.Pairs(script.QUICK | {"min_count": 1})
    right = script.measure(pairs.reference, pairs, script.QUICK)
    assert right["bleu"] == 100
    assert [
        score for score, n in zip(right["by_length"], right["sentences"], strict=True) if n
    ] == [100] * np.count_nonzero(right["sentences"])
    wrong = [text.replace("hund", "kuh") for text in pairs.reference]
    assert 0 < script.measure(wrong, pairs, script.QUICK)["bleu"] < 100
    # Reading and writing loses nothing that lower-case BLEU sees.
    again = [script.text(script.tokens(text)) for text in pairs.reference]
    assert script.measure(again, pairs, script.QUICK)["bleu"] == 100


def test_tokens_and_text(script):
    sentence = "Ein Mann, der's hat, trägt (k)ein T-Shirt!"
    words = script.tokens(sentence)
    assert words[:4] == ["ein", "mann", ",", "der's"]
    assert words[-2:] == ["t-shirt", "!"]
    assert script.text(["ein", "hund", ",", "gut", "."]) == "ein hund, gut."


def test_validation_counts_every_token_once(script):
    model = EncoderDecoder(9, 9, 4)
    pairs = [([4, 5], [6]), ([5], [7, 8, 4, 5, 6]), ([8, 8, 4], [5, 5])]
    parts = [script.batches([pair], 1)[0] for pair in pairs]
    with torch.no_grad():
        summed = sum(script.loss(model, part).item() * (part[2] != PAD).sum() for part in parts)
        tokens = sum(len(target) + 1 for _, target in pairs)
        assert script.validate(model, script.batches(pairs, 2)) == pytest.approx(summed / tokens)

"""How near captions are to their references: the field's measures, by the libraries that people compare with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast


def likeness(said: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """CIDEr (pycocoevalcap), BLEU (sacrebleu, 0 to 100) and ROUGE-L (rouge-score, mean F1) of captions.

    CIDEr weighs words by how rare they are among all references, so it means nothing for a handful of pictures. Words
    are cut where letters end, for both sides alike, since the scorer's own tokenizer wants Java.

    Args:
        references: of each caption, at least one; each caption has as many.
    """
    import sacrebleu
    from pycocoevalcap.cider.cider import Cider
    from rouge_score.rouge_scorer import RougeScorer

    truths = {number: [_words(text) for text in texts] for number, texts in enumerate(references)}
    answers = {number: [_words(text)] for number, text in enumerate(said)}
    cider, _ = cast(Any, Cider()).compute_score(truths, answers)
    streams = [list(stream) for stream in zip(*references, strict=True)]
    rouge = cast(Any, RougeScorer(["rougeL"]))
    each = [
        rouge.score_multi(list(texts), text)["rougeL"].fmeasure for text, texts in zip(said, references, strict=True)
    ]
    return {
        "cider": float(cider),
        "bleu": float(cast(Any, sacrebleu).corpus_bleu(list(said), streams).score),
        "rouge_l": sum(each) / len(each),
    }


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))

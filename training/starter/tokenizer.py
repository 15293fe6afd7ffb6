"""Stage 0: the starter's own small vocabulary, a byte-level BPE over the picture book's words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from data import captions
from data.made_up_names import made_up_name
from data.picture_book import objects, random_scene
from flamingo_app.prompt import END_OF_CHUNK_TOKEN, IMAGE_TOKEN

VOCABULARY = 1536
# Words of teaching and of talks about several pictures, which the sentences drawn below hold rarely or never.
TEACHING = (
    "this is called", "it is called", "what is this called?", "which one is this?", "look, a", "i see.", "tags:",
    "which picture had the", "which picture showed the", "the first picture", "the second picture",
    "the third picture", "the fourth picture", "the fifth picture", "the last picture", "do you remember the name?",
    "what was it called?", "same", "different", "are they the same?", "earlier before after again now then",
    "zero one two three four five six seven eight nine ten eleven twelve", "my name is", "what is my name?",
    "your friend", "i like it", "a photo of a", "an image of a", "this one is a", "picture of", "nothing",
)  # fmt: skip
PAD_TOKEN = "<pad>"


def sentences(seed: int, count: int = 40_000) -> Iterator[str]:
    """What the vocabulary is fitted to: the book's captions and questions about trained objects, and made-up names."""
    random, things = Random(seed), objects("trained")
    for thing in things:
        yield from (f" {thing.name} {thing.plural}" for _ in range(20))
    for _ in range(count):
        scene = random_scene(random.choice(["one", "group", "pair", "mixed"]), things, random)
        asked, answer = captions.question(scene, random, things)
        yield f"user: {captions.as_typed(asked, random)}\nassistant: {answer}"
        yield f" {captions.caption(scene)}"
        yield f" {captions.alternative_caption(scene, random)}"
        yield f" {made_up_name(random)}"
    for words in (captions.UNKNOWN, captions.NO_PICTURE, *TEACHING):
        yield from (f" {words}" for _ in range(50))
    for said, answer in captions.CHITCHAT:
        yield from (f"user: {words}\nassistant: {answer}" for words in said)


def train_tokenizer(folder: Path, seed: int) -> PreTrainedTokenizerFast:
    """Fit the vocabulary and save it. Letters become lower case; any other text falls back to bytes.

    `<|endofchunk|>` has the highest id: open_clip's text tower finds the end of a text there.
    """
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    specials = [PAD_TOKEN, IMAGE_TOKEN, END_OF_CHUNK_TOKEN]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(specials), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(sentences(seed), trainer)
    missing = VOCABULARY - len(specials) - bpe.get_vocab_size()
    bpe.add_special_tokens([f"<unused{i}>" for i in range(missing)] + specials)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD_TOKEN,
        eos_token=END_OF_CHUNK_TOKEN,
        bos_token=END_OF_CHUNK_TOKEN,
        extra_special_tokens=[IMAGE_TOKEN],
        padding_side="left",
    )
    tokenizer.save_pretrained(folder)
    return tokenizer

"""CLIP's tokens as open_clip makes them, and a closed vocabulary that is the same every time."""

import json
import random
from pathlib import Path

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from datamodules.tokenizers import ClipTokenizer, Tokenizer, Vocabulary

TEXTS = [
    "", "a", "A Photo of a CAT!", "  many   spaces\n\tand lines ", "don't they're we'll I'd", "$3.50 (50% off) #1 @you",
    "R&amp;D &lt;b&gt; &amp;amp; caf&eacute;", "naïve café Ångström Straße", "日本語のテキスト", "Привет, мир",
    "مرحبا بالعالم", "नमस्ते दुनिया", "😀😃 👩‍🚒 🇪🇺", "“curly” ‘quotes’ – and… dashes—", "mojibake: â€œquotedâ€\x9d",
    "<end_of_text> in a text", "x" * 300, "\u200b\ufeff", "é\u0301 ﬁ ﬀ", "1234567890",
]  # fmt: skip
COUNTS = (1, 75, 76, 77, 78, 500)  # tokens of a caption, without start and end


@pytest.mark.parametrize("context_length", [2, 3, 16, 77, 100])
def test_clip_tokens_are_those_of_open_clip(context_length: int) -> None:
    theirs = SimpleTokenizer()
    texts = TEXTS + [" ".join(["star"] * count) for count in COUNTS]
    tokens, mask = ClipTokenizer(context_length)(texts)
    assert tokens.dtype == torch.int64 and mask.dtype == torch.bool and tokens.shape == (len(texts), context_length)
    assert torch.equal(tokens, theirs(texts, context_length=context_length))
    lengths = [min(len(theirs.encode(text)) + 2, context_length) for text in texts]
    assert mask.sum(1).tolist() == lengths and all(
        row[:length].all() for row, length in zip(mask, lengths, strict=True)
    )
    ends = [tokens[row, length - 1].item() for row, length in enumerate(lengths)]
    assert set(ends) == {ClipTokenizer.end}  # kept where the text was cut


def test_what_is_cut_is_counted() -> None:
    tokenizer = ClipTokenizer()
    tokenizer([" ".join(["star"] * count) for count in COUNTS])
    assert (tokenizer.num_seen, tokenizer.num_truncated, tokenizer.longest) == (6, 4, 502)  # 76 and more
    tokenizer.forget()
    assert (tokenizer.num_seen, tokenizer.num_truncated, tokenizer.longest) == (0, 0, 0)


def test_clip_ids_are_those_of_the_wheel() -> None:
    theirs = SimpleTokenizer()
    assert ClipTokenizer.num_tokens == theirs.vocab_size
    assert (ClipTokenizer.start, ClipTokenizer.end) == (theirs.sot_token_id, theirs.eot_token_id)
    assert theirs.decode([ClipTokenizer.separator]).strip(" ") == "\n"
    assert not any(ClipTokenizer.separator in ids for ids in ClipTokenizer().ids([*TEXTS, "a\nb", "\n"]))


@pytest.mark.parametrize("make", [ClipTokenizer, Vocabulary])
def test_a_context_without_room_is_refused(make: type[Tokenizer]) -> None:
    with pytest.raises(ValueError, match=r"^tokenizer.context_length: 1 has no room .*; give 2 or more$"):
        make(1)  # type: ignore[call-arg]
    tokenizer = make(2)  # type: ignore[call-arg]
    assert tokenizer(["star"])[0].tolist() == [[tokenizer.start, tokenizer.end]]


SCENES = ["A small red star, left of a blue ring.", "a red Ring", "the blue star", "two left-hand stars"]


def fitted(texts: list[str] = SCENES, **arguments: int) -> Vocabulary:
    tokenizer = Vocabulary(**arguments)
    tokenizer.fit(texts)
    return tokenizer


def test_a_vocabulary_follows_frequency_and_then_the_alphabet() -> None:
    words = ["a", "blue", "left", "red", "ring", "star", ",", "-", ".", "hand", "of", "small", "stars", "the", "two"]
    assert fitted().vocabulary == ["<pad>", "<start>", "<end>", "<unk>", "<sep>", *words]
    for seed in range(5):
        shuffled = random.Random(seed).sample(SCENES, len(SCENES))
        assert fitted(shuffled).vocabulary == fitted().vocabulary
    assert fitted(max_words=3).vocabulary[5:] == ["a", "blue", "left"] and fitted(max_words=3).num_tokens == 8
    with pytest.raises(ValueError, match=r"tokenizer.max_words: 0 is not a positive"):
        Vocabulary(max_words=0)


def test_a_vocabulary_reads_and_writes() -> None:
    tokenizer = fitted(context_length=12)
    tokens, mask = tokenizer(["A SMALL star, left of the ring.", ""])
    assert mask.sum(1).tolist() == [11, 2] and (tokens[~mask] == tokenizer.pad).all()
    assert tokenizer.decode(tokens[0]) == "a small star, left of the ring." and tokenizer.decode(tokens[1]) == ""
    assert not tokenizer.unknown
    special = {tokenizer.pad, tokenizer.start, tokenizer.end, tokenizer.separator}
    assert not special & set(tokenizer.ids(["a <pad> <start> <end> <sep>"])[0])  # no text can hold one


def test_words_that_are_not_known_are_counted() -> None:
    tokenizer = fitted()
    assert tokenizer.ids(["a Green star", "green, violet star"]) == [[5, 3, 10], [3, 11, 3, 10]]
    assert tokenizer.unknown == {"green": 2, "violet": 1} and tokenizer.num_words == 7


def test_a_file_keeps_the_words(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    fitted().save(file)
    other = Vocabulary()
    other.load(file)
    assert other.vocabulary == fitted().vocabulary and [path.name for path in tmp_path.iterdir()] == [file.name]
    assert torch.equal(other(SCENES)[0], fitted()(SCENES)[0])
    with pytest.raises(ValueError, match=r"was written by a tokenizer 'vocabulary', not 'clip'; take that one"):
        ClipTokenizer().load(file)
    ClipTokenizer().save(file)
    ClipTokenizer(5).load(file)
    good = {"tokenizer": "vocabulary", "words": fitted().vocabulary}
    for bad in ("", "[]", '{"tokenizer": "vocabulary"}', json.dumps({**good, "words": good["words"][1:]}), "{} {"):
        file.write_text(bad)
        with pytest.raises(ValueError, match=r"^tokenizer: .*tokenizer.json is damaged; remove it"):
            Vocabulary().load(file)


def test_of_a_question_that_is_too_long_the_answer_and_the_end_stay() -> None:
    tokenizer = Vocabulary(8)
    start, end, separator = tokenizer.start, tokenizer.end, tokenizer.separator
    assert tokenizer.pack([10, 11], [20]) == ([start, 10, 11, separator, 20, end], 4)
    assert tokenizer.pack([10, 11, 12, 13], [20]) == ([start, 10, 11, 12, 13, separator, 20, end], 6)
    assert tokenizer.num_truncated == 0 and tokenizer.longest == 8
    assert tokenizer.pack([10, 11, 12, 13, 14], [20, 21]) == ([start, 10, 11, 12, separator, 20, 21, end], 5)
    assert tokenizer.pack([10], [20, 21, 22, 23, 24]) == ([start, separator, 20, 21, 22, 23, 24, end], 2)
    assert tokenizer.num_truncated == 2
    assert tokenizer.pack([10], [*range(20, 30)]) == ([start, separator, 20, 21, 22, 23, 24, end], 2)
    assert (tokenizer.num_seen, tokenizer.num_truncated, tokenizer.longest) == (5, 3, 14)
    clip = ClipTokenizer(16)
    packed, given = clip.pack(*clip.ids(["what colour is the star?", "red"]))
    assert clip.decode(packed) == "what colour is the star ?\nred" and packed[given - 1] == clip.separator

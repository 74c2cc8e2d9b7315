"""Texts become ids: CLIP's byte-pair vocabulary, or a small closed one made of the training texts' own words."""

import json
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import tokenizers

SHORTEST = 2  # start and end


class Tokenizer(ABC):
    """Texts to ids and back: start, the text, end, and `pad` up to `context_length`.

    Of a text that is too long its end is cut off, never the end token. What `pack` and a call have seen is counted:
    `num_seen` texts, of them `num_truncated`, the longest of `longest` tokens with start and end, and `unknown` words.

    Args:
        context_length: Tokens of a text, start and end among them; at least 2.
    """

    name: str  # in the file that `save` writes
    start: int
    end: int
    pad: int
    separator: int  # between a question and its answer

    def __init__(self, context_length: int) -> None:
        if context_length < SHORTEST:
            raise ValueError(
                f"tokenizer.context_length: {context_length} has no room for a start and an end token;"
                f" give {SHORTEST} or more"
            )
        self.context_length = context_length
        self.num_seen = self.num_truncated = self.longest = self.num_words = 0
        self.unknown: Counter[str] = Counter()

    @property
    @abstractmethod
    def num_tokens(self) -> int:
        """The size of the vocabulary: every id is below it."""

    @abstractmethod
    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, uncut and without start and end."""

    @abstractmethod
    def words(self, ids: Sequence[int]) -> str:
        """The text of ids without start, end and separator."""

    def fit(self, texts: Iterable[str]) -> None:  # noqa: B027
        """Learn the vocabulary from the training texts, where it is not given."""

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens int64 [N, T] and mask bool [N, T], true where a token stands; T is `context_length`."""
        packed = [self.pack(ids)[0] for ids in self.ids(texts)]
        tokens = torch.full((len(packed), self.context_length), self.pad)  # N T
        mask = torch.zeros(tokens.shape, dtype=torch.bool)  # N T
        for row, ids in enumerate(packed):
            tokens[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = True
        return tokens, mask

    def pack(self, text: list[int], answer: list[int] | None = None) -> tuple[list[int], int]:
        """At most `context_length` ids, start, text, end, or start, text, separator, answer, end; and how many of them
        are given: all, or those up to the separator. The answer is cut only where it does not fit even alone."""
        needed = len(text) + SHORTEST + (0 if answer is None else 1 + len(answer))
        self.num_seen += 1
        self.num_truncated += needed > self.context_length
        self.longest = max(self.longest, needed)
        room = self.context_length - SHORTEST
        if answer is None:
            ids = [self.start, *text[:room], self.end]
            return ids, len(ids)
        answer = answer[: room - 1]
        question = text[: room - 1 - len(answer)]
        return [self.start, *question, self.separator, *answer, self.end], len(question) + 2

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, up to the first end token; a separator becomes a line break."""
        parts: list[list[int]] = [[]]
        for number in map(int, ids):
            if number == self.end:
                break
            if number == self.separator:
                parts.append([])
            elif number != self.start:
                parts[-1].append(number)
        return "\n".join(self.words(part) for part in parts)

    def save(self, path: Path) -> None:
        """Write what `fit` learned as JSON; `path` appears only when it is whole."""
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_text(json.dumps({"tokenizer": self.name, **self._state()}, ensure_ascii=False), encoding="utf-8")
        os.replace(part, path)

    def load(self, path: Path) -> None:
        """Take back what `save` wrote; raises ValueError for any other file."""
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            name = state.pop("tokenizer")
            if name == self.name:
                self._restore(state)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"tokenizer: {path} is damaged; remove it if the run can be trained again") from error
        if name != self.name:
            raise ValueError(f"tokenizer: {path} was written by a tokenizer {name!r}, not {self.name!r}; take that one")

    def forget(self) -> None:
        """Start counting anew."""
        self.num_seen = self.num_truncated = self.longest = self.num_words = 0
        self.unknown = Counter()

    def _state(self) -> dict[str, Any]:
        """What `fit` learned."""
        return {}

    def _restore(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take back what `_state` gave."""


class ClipTokenizer(Tokenizer):
    """The 49,408 byte pairs of CLIP (Radford et al. 2021), lower case, from open_clip's wheel; nothing is downloaded.

    No word is unknown. The separator is the token of a line break, which never occurs in a text, as spaces are joined.
    """

    name = "clip"
    start, end, pad, separator = 49406, 49407, 0, 454
    num_tokens = 49408

    def __init__(self, context_length: int = 77) -> None:
        super().__init__(context_length)

    @cached_property
    def _pairs(self) -> Any:
        from open_clip.tokenizer import SimpleTokenizer  # four seconds, needed only now that there are texts

        return SimpleTokenizer()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_pairs"}

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._pairs.encode(text) for text in texts]

    def words(self, ids: Sequence[int]) -> str:
        return self._pairs.decode(ids).strip()


class Vocabulary(Tokenizer):
    """The words of the training texts, lower case, punctuation apart; any other word is <unk>, and is counted.

    Ids follow frequency and then the alphabet, after pad, start, end, unknown and separator.

    Args:
        context_length: Tokens of a text, start and end among them; at least 2.
        max_words: Keep only so many words, the most frequent ones; null keeps all.
    """

    name = "vocabulary"
    special = ["<pad>", "<start>", "<end>", "<unk>", "<sep>"]
    pad, start, end, unk, separator = range(5)

    def __init__(self, context_length: int = 32, max_words: int | None = None) -> None:
        super().__init__(context_length)
        if max_words is not None and max_words < 1:
            raise ValueError(f"tokenizer.max_words: {max_words} is not a positive whole number")
        self.max_words = max_words
        self._model = _word_level(self.special)

    @property
    def num_tokens(self) -> int:
        return self._model.get_vocab_size()

    @property
    def vocabulary(self) -> list[str]:
        """The words in the order of their ids."""
        return sorted(self._model.get_vocab(), key=self._model.get_vocab().get)  # type: ignore[arg-type]

    def fit(self, texts: Iterable[str]) -> None:
        from tokenizers.trainers import WordLevelTrainer

        most = 2**31 if self.max_words is None else self.max_words + len(self.special)
        trainer = WordLevelTrainer(vocab_size=most, special_tokens=self.special, show_progress=False)
        model = _word_level(self.special)
        model.train_from_iterator(texts, trainer)
        known = model.get_vocab()
        self._model = _word_level(sorted(known, key=known.get))  # type: ignore[arg-type]

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        found = [encoded.ids for encoded in self._model.encode_batch_fast(list(texts), add_special_tokens=False)]
        for text, ids in zip(texts, found, strict=True):
            self.num_words += len(ids)
            if self.unk in ids:
                offsets = self._model.encode(text, add_special_tokens=False).offsets
                spans = [span for number, span in zip(ids, offsets, strict=True) if number == self.unk]
                self.unknown.update(text[first:last].lower() for first, last in spans)
        return found

    def words(self, ids: Sequence[int]) -> str:
        known = [self._model.id_to_token(number) for number in ids if number != self.pad]
        return re.sub(r" ([,.;:!?])", r"\1", " ".join(word for word in known if word is not None))

    def library(self) -> "tokenizers.Tokenizer":
        """The same as a tokenizer of the library `tokenizers`, which puts start and end around a text, cuts and pads it."""
        from tokenizers.processors import TemplateProcessing

        model = _word_level(self.vocabulary)
        edges = [(name, self.special.index(name)) for name in ("<start>", "<end>")]
        model.post_processor = TemplateProcessing(single="<start> $A <end>", special_tokens=edges)
        model.enable_truncation(self.context_length)
        model.enable_padding(length=self.context_length, pad_id=self.pad, pad_token="<pad>")
        return model

    def _state(self) -> dict[str, Any]:
        return {"words": self.vocabulary}

    def _restore(self, state: dict[str, Any]) -> None:
        words = state["words"]
        if words[: len(self.special)] != self.special or len(set(words)) != len(words):
            raise ValueError
        self._model = _word_level(words)


def _word_level(words: list[str]) -> "tokenizers.Tokenizer":
    """A closed vocabulary; no text can hold a special token, as its brackets are punctuation."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads warn when a loader's workers fork
    from tokenizers import Tokenizer as Model
    from tokenizers import models, normalizers, pre_tokenizers

    model = Model(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    model.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    model.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    return model

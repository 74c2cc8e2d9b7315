"""What is said of each picture: the texts of a split and their tokens, one text of a row in each batch.

Every distinct text becomes tokens once; they lie one behind the other as small integers, and a batch is one fancy
index.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from datamodules.tokenizers import Tokenizer

if TYPE_CHECKING:
    import pyarrow


class Texts:
    """L texts of N rows, in the rows' order, each with what stands beside it: its answer, its kind.

    Args:
        columns: Batch key -> L strings: `text`, which may have an `answer`, and more.
        rows: int64 [L], ascending, the row of each text.
        num_rows: N.
        refused: Row -> why it cannot be used; any other row without a text is refused for that.
    """

    def __init__(
        self,
        columns: "Mapping[str, pyarrow.LargeStringArray]",
        rows: np.ndarray,
        num_rows: int,
        refused: Mapping[int, str] | None = None,
    ) -> None:
        self.columns = dict(columns)
        self.rows = rows
        self.count = np.bincount(rows, minlength=num_rows)  # N, texts of a row
        self.first = np.cumsum(self.count) - self.count  # N
        self.refused = {int(row): "no text" for row in np.flatnonzero(self.count == 0)} | dict(refused or {})
        self.tokens: _Tokens | None = None

    def select(self, rows: np.ndarray) -> "Texts":
        """The texts of some rows, ascending."""
        number = np.full(len(self.count), -1)
        number[rows] = np.arange(len(rows))
        kept = np.flatnonzero(number[self.rows] >= 0)
        columns = {key: strings.take(kept) for key, strings in self.columns.items()}
        return Texts(columns, number[self.rows[kept]], len(rows))

    def lists(self, key: str) -> list[list[str]]:
        """The strings of a key, row for row."""
        strings = self.columns[key].to_pylist()
        return [strings[first : first + count] for first, count in zip(self.first, self.count, strict=True)]

    def strings(self) -> list[str]:
        """All texts and answers, for a tokenizer to learn from."""
        return [value for key in ("text", "answer") if key in self.columns for value in self.columns[key].to_pylist()]

    def digest(self) -> bytes:
        """Of the strings and of the rows they stand in."""
        digest = hashlib.sha256(self.count.astype("<i8").tobytes())
        for key, strings in self.columns.items():
            for value in strings.to_pylist():
                digest.update(f"{key}|{len(value)}|{value}".encode("utf-8", "surrogatepass"))
        return digest.digest()

    def tokenize(self, tokenizer: Tokenizer, title: str) -> None:
        """Make the tokens, and say on stderr what was cut off or not known; `title` ("emoji train") names the split."""
        tokenizer.forget()
        parts = [self.columns[key].dictionary_encode() for key in ("text", "answer") if key in self.columns]
        codes, number = np.unique(np.stack([part.indices for part in parts], 1), axis=0, return_inverse=True)
        ids = [tokenizer.ids(part.dictionary.to_pylist()) for part in parts]
        packed = [tokenizer.pack(*(known[code] for known, code in zip(ids, row, strict=True))) for row in codes]
        self.tokens = _Tokens(packed, number.ravel(), tokenizer)
        if said := _trouble(tokenizer):
            print(f"{title}: {said}", file=sys.stderr)

    def gather(self, rows: np.ndarray, draws: np.ndarray) -> dict[str, Any]:
        """What a batch holds of some rows: the strings and tokens of one text each, chosen by draws in [0, 1)."""
        assert self.tokens is not None, "tokenize first"
        at = self.first[rows] + (draws * self.count[rows]).astype(np.int64)  # B
        batch: dict[str, Any] = {key: strings.take(at).to_pylist() for key, strings in self.columns.items()}
        batch["tokens"], batch["mask"], given = self.tokens.gather(at)
        if "answer" in self.columns:
            batch["prefix_length"] = given
        return batch


class SplitTexts:
    """The texts of train, validation and test, and the tokenizer that reads them.

    Args:
        tokenizer: Learns its words from the training texts, unless `keep` finds a run's.
        read: Split -> the texts of all its rows, those that will be refused among them.
    """

    def __init__(self, tokenizer: Tokenizer, read: Callable[[str], Texts]) -> None:
        self.tokenizer = tokenizer
        self._read = read
        self._learned = False
        self._all: dict[str, Texts] = {}
        self._kept: dict[str, Texts] = {}

    def facts(self) -> dict[str, int]:
        """vocabulary_size and context_length."""
        self._learn()
        return {"vocabulary_size": self.tokenizer.num_tokens, "context_length": self.tokenizer.context_length}

    def missing(self, split: str) -> Mapping[int, str]:
        """The rows that must be refused, and why; none where no row has a text, as in a secret test split."""
        texts = self._of_all(split)
        return texts.refused if len(texts.refused) < len(texts.count) else {}

    def kept(self, split: str, rows: np.ndarray) -> Texts:
        """The texts of those rows of a split that are not refused: row for row with the pictures."""
        if split not in self._kept:
            self._kept[split] = self._of_all(split).select(rows)
        return self._kept[split]

    def tokenized(self, split: str, rows: np.ndarray, title: str) -> Texts:
        """The same with their tokens; ValueError where no row has a text. `title` ("emoji train") is for messages."""
        texts = self.kept(split, rows)
        if texts.refused:
            raise ValueError(
                f"{title}: no row has {' and '.join(key for key in texts.columns if key != 'kind')}"
                f" (row 0: {self._of_all(split).refused[0]}); choose another column or split"
            )
        if texts.tokens is None:
            self._learn()
            texts.tokenize(self.tokenizer, title)
        return texts

    def keep(self, folder: Path, write: bool) -> None:
        """Take the words from a run's folder, `tokenizer.json`, so that other data are read with them; if they are not
        there, `write` them."""
        file = folder / "tokenizer.json"
        if file.is_file():
            self.tokenizer.load(file)
            self._learned = True
            self._kept.clear()  # their tokens may be of other words
        elif write:
            self._learn()
            self.tokenizer.save(file)

    def _of_all(self, split: str) -> Texts:
        if split not in self._all:
            self._all[split] = self._read(split)
        return self._all[split]

    def _learn(self) -> None:
        if not self._learned:
            self.tokenizer.fit(self._of_all("train").strings())
            self._learned = True


class _Tokens:
    """The tokens of distinct texts, one behind the other, and which of them each text has."""

    def __init__(self, packed: Sequence[tuple[list[int], int]], number: np.ndarray, tokenizer: Tokenizer) -> None:
        small = np.uint16 if tokenizer.num_tokens <= 2**16 else np.uint32
        self.flat = np.array([token for ids, _ in packed for token in ids], dtype=small)
        self.length = np.array([len(ids) for ids, _ in packed], dtype=np.int32)
        self.given = np.array([given for _, given in packed], dtype=np.int32)
        self.first = np.cumsum(self.length, dtype=np.int64) - self.length
        self.number = number.astype(np.int32)  # L
        self.pad = tokenizer.pad
        self.span = np.arange(tokenizer.context_length)  # T

    def gather(self, at: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens int64 [B, T], mask bool [B, T] and the number of given tokens int64 [B]."""
        number = self.number[at]
        mask = self.span < self.length[number][:, None]  # B T
        place = np.minimum(self.first[number][:, None] + self.span, len(self.flat) - 1)
        tokens = np.where(mask, self.flat[place], self.pad).astype(np.int64)  # B T
        return torch.from_numpy(tokens), torch.from_numpy(mask), torch.from_numpy(self.given[number].astype(np.int64))


def _trouble(tokenizer: Tokenizer) -> str:
    """What a tokenizer could not keep of the texts it has counted, in one line, or nothing."""
    parts = []
    if tokenizer.num_truncated:
        parts.append(
            f"{tokenizer.num_truncated:,} of {tokenizer.num_seen:,} different texts are longer than"
            f" {tokenizer.context_length} tokens and were cut; the longest needs"
            f" --data.tokenizer.context_length {tokenizer.longest}"
        )
    if tokenizer.unknown:
        words = ", ".join(repr(word) for word, _ in tokenizer.unknown.most_common(3))
        parts.append(
            f"{tokenizer.unknown.total():,} of {tokenizer.num_words:,} words are not in the vocabulary and became"
            f" <unk>: {words}{', ...' if len(tokenizer.unknown) > 3 else ''}"
        )
    return "; ".join(parts)

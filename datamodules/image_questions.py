"""Pictures with questions and their answers."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jsonargparse import lazy_instance

from datamodules import columns as tables
from datamodules.hugging_face import HuggingFaceData
from datamodules.texts import SplitTexts, Texts
from datamodules.tokenizers import Tokenizer, Vocabulary

if TYPE_CHECKING:
    import pyarrow

SHORTEST = 4  # start, separator, one token of the answer, end

DEFAULT: Any = lazy_instance(Vocabulary)  # never built: by it the command line knows the default's arguments


class ImageQuestions(HuggingFaceData):
    """Batches of `image` float32 [B, C, H, W] in [-1, 1], `text` and `answer` (B strings each), `tokens` int64 [B, T],
    `mask` bool [B, T] and `prefix_length` int64 [B]; `kind` (B strings) and `label` int64 [B] where there are columns.

    The tokens are start, question, separator, answer, end, then padding; the first `prefix_length` of them, up to the
    separator, are given, and the rest is to be told (the prefix and suffix of PaliGemma, Beyer et al. 2024). Of what is
    too long the question's end is cut off.
    The other arguments are those of `HuggingFaceData`; `columns` may map image, question, answer, kind and label, else
    they are found by these names. A row holds one of each or equally long lists; of one question with a list of answers
    the most common answer counts, of equally common ones the first. A path reads a field of structs (`answer:
    answers.answer`). In training, one question of a row is chosen in each epoch, a function of (the run's seed, epoch,
    row); in validation and test it is always the same one. A row without a question and its answer is refused like a
    picture that cannot be read.

    Args:
        tokenizer: Makes the tokens; what it has learned is kept in the run's folder as `tokenizer.json`.
    """

    keys = ("image", "question", "answer", "kind", "label")
    _texts: SplitTexts

    def __init__(self, *args: Any, tokenizer: Tokenizer = DEFAULT, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tokenizer = Vocabulary() if tokenizer is DEFAULT else tokenizer
        if self.tokenizer.context_length < SHORTEST:
            raise ValueError(
                f"tokenizer.context_length: {self.tokenizer.context_length} has no room for a question and its answer;"
                f" give {SHORTEST} or more"
            )
        self._texts = SplitTexts(self.tokenizer, self._read_texts)

    def questions(self, split: str) -> list[list[str]]:
        """All questions of each row of train, validation or test, row for row with `images(split)`."""
        return self._lists(split, "text")

    def answers(self, split: str) -> list[list[str]]:
        """The answer to each of `questions(split)`."""
        return self._lists(split, "answer")

    def kinds(self, split: str) -> list[list[str]]:
        """The kind of each of `questions(split)`; an error where there is no such column."""
        if "kind" not in self._text_columns:
            raise ValueError(f"columns: {self._called} has no kind column; name it with --data.columns.kind NAME")
        return self._lists(split, "kind")

    def _lists(self, split: str, key: str) -> list[list[str]]:
        return self._texts.kept(split, self._read(split).rows).lists(key)

    @cached_property
    def _text_columns(self) -> dict[str, str]:
        """question, answer and, where there is one, kind -> the column or path."""
        paths = tables.text_paths(self._splits["train"].features)
        found = {}
        for key in ("question", "answer", "kind"):
            candidates = tables.named(paths, [key])
            if key != "kind" or candidates or key in self.columns:
                found[key] = tables.checked(self._column(key, candidates, key, paths), paths, self._called)
        return found

    def _read_texts(self, split: str) -> Texts:
        dataset = self._split(split)
        found = {key: tables.read_texts(dataset, path) for key, path in self._text_columns.items()}
        if found["answer"].listed and not found["question"].listed:
            found["answer"] = _most_common(found["answer"])
        question = found["question"]
        counts = {key: np.bincount(strings.rows, minlength=len(dataset)) for key, strings in found.items()}
        unequal = np.zeros(len(dataset), dtype=bool)
        for count in counts.values():
            unequal |= count != counts["question"]
        refused = {
            int(row): " and ".join(f"{count[row]} of {self._text_columns[key]!r}" for key, count in counts.items())
            for row in np.flatnonzero(unequal)
        }
        # Lists that are not equally long cannot be paired; of the others, those with both a question and an answer.
        pairs = {key: strings.texts.take(np.flatnonzero(~unequal[strings.rows])) for key, strings in found.items()}
        rows = question.rows[~unequal[question.rows]]
        whole = pairs["question"].is_valid().to_numpy(False) & pairs["answer"].is_valid().to_numpy(False)
        columns = {"text": pairs["question"], "answer": pairs["answer"]}
        if "kind" in pairs:
            columns["kind"] = pairs["kind"].fill_null("")
        columns = {key: strings.take(np.flatnonzero(whole)) for key, strings in columns.items()}
        return Texts(columns, rows[whole], len(dataset), refused)


def _most_common(answers: tables.Strings) -> tables.Strings:
    """One answer a row: the most common, of equally common ones the first."""
    there = answers.texts.is_valid().to_numpy(zero_copy_only=False)
    texts: pyarrow.LargeStringArray = answers.texts.drop_null()
    codes = texts.dictionary_encode().indices.to_numpy(False)
    both = np.stack([answers.rows[there], codes], 1)  # L 2
    different, first, count = np.unique(both, axis=0, return_index=True, return_counts=True)
    order = np.lexsort([first, -count, different[:, 0]])  # by row, then the most common, then the first
    best = order[np.unique(different[order, 0], return_index=True)[1]]
    return tables.Strings(texts.take(first[best]), different[best, 0], False)

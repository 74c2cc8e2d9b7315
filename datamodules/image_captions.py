"""Pictures with what is said of them."""

from functools import cached_property
from typing import Any

from jsonargparse import lazy_instance

from datamodules import columns as tables
from datamodules.hugging_face import HuggingFaceData
from datamodules.texts import SplitTexts, Texts
from datamodules.tokenizers import ClipTokenizer, Tokenizer

NAMES = ("caption", "text", "sentence", "description", "title", "prompt")
DEFAULT: Any = lazy_instance(ClipTokenizer)  # never built: by it the command line knows the default's arguments


class ImageCaptions(HuggingFaceData):
    """Batches of `image` float32 [B, C, H, W] in [-1, 1], `text` (B strings), `tokens` int64 [B, T], `mask` bool
    [B, T], and `label` int64 [B] where there is a class column.

    The other arguments are those of `HuggingFaceData`; `columns` may map image, text and label. A row holds one text or
    a list of them; a path reads a field of structs (`text: sentences.raw`). The column is the mapped one, else the one
    named caption, text, sentence, description, title or prompt, or their plurals, else the only one with texts.
    In training, one text of a row is chosen in each epoch, a function of (the run's seed, epoch, row); in validation
    and test it is always the same one. A row without a text is refused like a picture that cannot be read. (With
    `flip`, left and right in a text are no longer true.)

    Args:
        tokenizer: Makes the tokens; what it has learned is kept in the run's folder as `tokenizer.json`.
    """

    keys = ("image", "text", "label")
    _texts: SplitTexts

    def __init__(self, *args: Any, tokenizer: Tokenizer = DEFAULT, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tokenizer = ClipTokenizer() if tokenizer is DEFAULT else tokenizer
        self._texts = SplitTexts(self.tokenizer, self._read_texts)

    def captions(self, split: str) -> list[list[str]]:
        """All texts of each row of train, validation or test, row for row with `images(split)`."""
        return self._texts.kept(split, self._read(split).rows).lists("text")

    @cached_property
    def _text_column(self) -> str:
        paths = tables.text_paths(self._splits["train"].features)
        free = [path for path in paths if path != self.columns.get("label")]
        candidates = tables.named(free, NAMES) or (free if len(free) == 1 else [])
        return tables.checked(self._column("text", candidates, "text", paths), paths, self._called)

    def _read_texts(self, split: str) -> Texts:
        dataset = self._split(split)
        found = tables.read_texts(dataset, self._text_column)
        there = found.texts.is_valid().to_numpy(zero_copy_only=False)
        return Texts({"text": found.texts.drop_null()}, found.rows[there], len(dataset))

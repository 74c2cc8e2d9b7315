"""Captions of a scene, and the parser that reads what a caption claims.

Every caption is true of its scene and names each object once.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from datamodules.scenes.questions import questions
from datamodules.scenes.wording import NUMBERS, VOCABULARY, Pairs, Thing, Wording, relation
from datamodules.scenes.world import PLACES, SHAPES

STYLES = ("mixed", "short", "full", "question")
RELATIONS = ("left of", "right of", "above", "below")
SAID = {
    "left of": ("left of", "to the left of"), "right of": ("right of", "to the right of"),
    "above": ("above", "over"), "below": ("below", "under"),
}  # fmt: skip
SYNONYMS = {"little": "small", "big": "large", "spotted": "dotted", "over": "above", "under": "below"}
LEADS = ("", "a picture of ", "there is ", "you see ")


@dataclass
class Said:
    """What a caption claims: attributes of each object it names (only those it mentions; the place, where it names but
    one), and relations (i, relation, j)."""

    objects: list[dict[str, str]] = field(default_factory=list)
    relations: list[tuple[int, str, int]] = field(default_factory=list)


def captions(objects: list[Thing], style: str, wording: Wording, pairs: Pairs) -> list[str]:
    """Four captions of a scene in "short" or "full" wording or as a "question" with its answer; "mixed" is one short and
    three full ones."""
    if style == "question":
        asked = [(question, answer) for question, answer, _ in questions(objects, wording, pairs)]
        return [f"{question} {answer}" for question, answer in asked[:4]]
    short = {"mixed": 1, "short": 4, "full": 0}[style]
    return [_short(objects, wording) for _ in range(short)] + [_full(objects, wording) for _ in range(4 - short)]


def _short(objects: list[Thing], wording: Wording) -> str:
    """Colour and shape alone."""
    named = [f"a {thing.colour} {thing.shape}".replace("a orange", "an orange") for thing in wording.shuffled(objects)]
    return _lead(wording, len(named)) + _listed(named)


def _full(objects: list[Thing], wording: Wording) -> str:
    """Every attribute, and where the objects are."""
    ordered = wording.shuffled(objects)
    named = [_described(thing, wording) for thing in ordered]
    if len(ordered) == 1:
        place = ordered[0].place
        if place in ("top", "bottom", "left", "right"):
            where = wording.choose([f"at the {place}", f"on the {place}"] if place in ("left", "right") else [f"at the {place}"])
        else:
            where = f"in the {place}"
        return wording.choose([f"{named[0]} {where}", f"{where}, {named[0]}", f"{_lead(wording, 1)}{named[0]} {where}"])
    first = wording.choose(SAID[relation(ordered[0], ordered[1])])
    if len(ordered) == 2:
        return wording.choose(["", "a picture of ", "two objects: "]) + f"{named[0]} {first} {named[1]}"
    last = wording.choose([0, 1])
    second = wording.choose(SAID[relation(ordered[2], ordered[last])])
    known = f"the {ordered[last].colour} {ordered[last].shape}"
    if wording.chance(0.3):
        return f"three objects: {_listed(named)}"
    return f"{named[0]} {first} {named[1]}, {wording.choose(['and', 'with'])} {named[2]} {second} {known}"


def _described(thing: Thing, wording: Wording) -> str:
    size = wording.choose({"small": ("small", "little"), "large": ("large", "big")}[thing.size])
    texture = wording.choose({"plain": ("plain",), "striped": ("striped",), "dotted": ("dotted", "spotted")}[thing.texture])
    return f"a {size} {texture} {thing.colour} {thing.shape}"


def _lead(wording: Wording, num: int) -> str:
    lead = wording.choose([*LEADS, f"{NUMBERS[num]} object{'s' * (num > 1)}: "])
    return lead.replace("there is", "there are") if num > 1 else lead


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _any(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_MEANING = {word: (name, word) for name in ("size", "texture", "colour") for word in VOCABULARY[name]}
_MEANING |= {word: _MEANING[meant] for word, meant in SYNONYMS.items() if meant in _MEANING}
_PHRASE = re.compile(
    rf"\b(?:(?P<article>an?|the|one) )?(?P<adjectives>(?:(?:{_any(_MEANING)})(?:,| and)? )*)(?P<shape>{_any(SHAPES)})\b"
)
_PLACE = re.compile(rf"\b(?:in|at|on) the ({_any(PLACES)})\b(?! of)")
_RELATION = re.compile(rf"\b({_any([*RELATIONS, 'over', 'under'])})\s*$")
_DENIED = re.compile(r"[^.!?]*\? no\b")


def parse(text: str) -> Said:
    """The claims of a caption in this language, also of one that a person wrote ("red, striped star above a ring"); what it
    does not know it leaves out. "the blue ring" is an object named before, where there is one; a question with the
    answer no claims nothing."""
    said = Said()
    before, last = 0, None
    text = _DENIED.sub("", text.lower())
    for phrase in _PHRASE.finditer(text):
        words = re.findall(r"\w+", phrase["adjectives"])
        claims = {**dict(_MEANING[word] for word in words if word != "and"), "shape": phrase["shape"]}
        between = _RELATION.search(text[before : phrase.start()].rstrip())
        number = _named_before(claims, said) if phrase["article"] == "the" else None
        if number is None:
            number = len(said.objects)
            said.objects.append(claims)
        if between is not None and last is not None:
            said.relations.append((last, SYNONYMS.get(between[1], between[1]), number))
        before, last = phrase.end(), number
    place = _PLACE.search(text)
    if place is not None and len(said.objects) == 1:
        said.objects[0]["place"] = place[1]
    return said


def _named_before(claims: dict[str, str], said: Said) -> int | None:
    fitting = [number for number, known in enumerate(said.objects) if claims.items() <= known.items()]
    return fitting[-1] if fitting else None

"""Questions about a scene with their answers, balanced: who does not see the picture can only guess."""

from datamodules.scenes.wording import NUMBERS, Pairs, Thing, Wording

KINDS = ("colour", "shape", "size", "texture", "count", "exists", "place", "relation")
CLEAR = 0.1  # how far apart two centres are along an axis before anything is asked about it



def questions(objects: list[Thing], wording: Wording, pairs: Pairs) -> list[tuple[str, str, str]]:
    """(question, answer, kind) for every kind that the scene allows, in a random order."""
    asked = [ask(objects, wording, pairs) for ask in (_colour, _shape, _size, _texture, _count, _exists, _place, _relation)]
    found = [question for question in asked if question is not None]
    turn = int(next(wording.draws) * len(found))
    return found[turn:] + found[:turn]


def _colour(objects: list[Thing], wording: Wording, pairs: Pairs) -> tuple[str, str, str] | None:
    thing, name = _referred(objects, wording, (("shape",), ("size", "shape"), ("texture", "shape")))
    if name is None:
        return None
    return wording.choose([f"what colour is {name}?", f"which colour has {name}?"]), thing.colour, "colour"


def _shape(objects: list[Thing], wording: Wording, pairs: Pairs) -> tuple[str, str, str] | None:
    thing, name = _referred(objects, wording, (("colour",), ("size", "colour"), ("texture", "colour")))
    if name is None:
        return None
    return wording.choose([f"what shape is {name}?", f"which shape has {name}?"]), thing.shape, "shape"


def _size(objects: list[Thing], wording: Wording, pairs: Pairs) -> tuple[str, str, str] | None:
    thing, name = _referred(objects, wording, (("shape",), ("colour",), ("colour", "shape")))
    if name is None:
        return None
    return wording.choose([f"what size is {name}?", f"is {name} small or large?"]), thing.size, "size"


def _texture(objects: list[Thing], wording: Wording, pairs: Pairs) -> tuple[str, str, str] | None:
    thing, name = _referred(objects, wording, (("shape",), ("colour",), ("colour", "shape")))
    if name is None:
        return None
    return wording.choose([f"what texture has {name}?", f"is {name} plain, striped or dotted?"]), thing.texture, "texture"


def _count(objects: list[Thing], wording: Wording, pairs: Pairs) -> tuple[str, str, str]:
    asked = wording.choose(["how many objects are there?", "how many objects do you see?", "how many shapes are in the picture?"])
    return asked, NUMBERS[len(objects)], "count"


def _exists(objects: list[Thing], wording: Wording, pairs: Pairs) -> tuple[str, str, str] | None:
    """One that is there or one that is not, drawn as the objects of such scenes are; both, or neither, can be asked."""
    there = [(thing.shape, thing.colour) for thing in objects]
    number = wording.choose(range(len(objects)))
    drawn = [pairs(number, next(wording.draws), next(wording.draws)) for _ in range(4)]
    absent = next((pair for pair in drawn if pair not in there), None)
    if absent is None:
        return None
    answer = wording.choose(["yes", "no"])
    named = _a(wording.choose(there) if answer == "yes" else absent)
    return wording.choose([f"is there {named}?", f"do you see {named}?"]), answer, "exists"


def _place(objects: list[Thing], wording: Wording, pairs: Pairs) -> tuple[str, str, str] | None:
    thing, name = _referred(objects, wording, (("shape",), ("colour",), ("colour", "shape")))
    if name is None:
        return None
    return wording.choose([f"where is {name}?", f"in which part of the picture is {name}?"]), thing.place, "place"


def _relation(objects: list[Thing], wording: Wording, pairs: Pairs) -> tuple[str, str, str] | None:
    """What stands on one side of an object, where one other does beyond doubt and no third one may."""
    clear = []
    for known in objects:
        for side, axis, sign in (("left of", "x", -1), ("right of", "x", 1), ("above", "y", -1), ("below", "y", 1)):
            beyond = [(sign * (getattr(other, axis) - getattr(known, axis)), other) for other in objects]
            beyond = [(distance, other) for distance, other in beyond if distance > 0]
            if len(beyond) == 1 and beyond[0][0] >= CLEAR:
                clear.append((f"{side} the {known.colour} {known.shape}", beyond[0][1].shape))
    if not clear:
        return None
    where, answer = wording.choose(clear)
    return wording.choose([f"what shape is {where}?", f"which shape do you see {where}?"]), answer, "relation"


def _referred(
    objects: list[Thing], wording: Wording, ways: tuple[tuple[str, ...], ...]
) -> tuple[Thing, str | None]:
    """An object, and words of the given attributes that fit it and no other; None where no way singles it out."""
    thing = wording.choose(objects)
    fitting = [
        way for way in ways
        if sum(all(getattr(other, part) == getattr(thing, part) for part in way) for other in objects) == 1
    ]  # fmt: skip
    if not fitting:
        return thing, None
    way = wording.choose(fitting)
    words = [getattr(thing, part) for part in ("size", "texture", "colour", "shape") if part in way]
    return thing, " ".join(["the", *words, *([] if "shape" in way else ["object"])])


def _a(pair: tuple[str, str]) -> str:
    return f"{'an' if pair[1] == 'orange' else 'a'} {pair[1]} {pair[0]}"

"""Splits by prompt: near-duplicates stay together, the draw is seeded, and the outcome is recorded.

Two prompts are near-duplicates if their words, as sets after Unicode and case folding, have a Jaccard similarity of at
least 0.8; what is linked through others counts as well. A group's split follows from the seed and the group's first
text alone, so items that are added later move nobody outside the groups that they join.
"""

import hashlib
import json
import math
import re
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SPLITS_FILE = "splits.json"
FRACTIONS = {"train": 0.9, "validation": 0.05, "test": 0.05}
SIMILARITY = 0.8


def normalise_prompt(prompt: str) -> str:
    """Reduce a prompt to its words: compatibility forms, case, punctuation and spacing do not matter.

    Args:
        prompt (`str`): Any text.

    Returns:
        `str`: the words with single spaces between them; text without a word keeps its signs.
    """
    folded = unicodedata.normalize("NFKC", prompt).casefold()
    return " ".join(re.findall(r"\w+", folded)) or " ".join(folded.split())


def near_duplicates(prompts: Iterable[str], similarity: float = SIMILARITY) -> list[str]:
    """Group prompts that are, directly or through others, near-duplicates.

    The comparison is exact and fast: sets with this similarity share at least one of their rarest words, so only
    prompts that do are compared.

    Args:
        prompts (`Iterable[str]`): The prompts, in any order and with repetitions.
        similarity (`float`, defaults to 0.8): Least Jaccard similarity of two near-duplicates, in `(0, 1]`.

    Returns:
        `list[str]`: the name of each prompt's group, the same for any order of the prompts.

    Raises:
        ValueError: If `similarity` is not in `(0, 1]`.
    """
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity must be above 0 and at most 1, got {similarity}.")
    numbers: dict[str, int] = {}  # word to its number
    places: dict[bytes, int] = {}  # the numbers of a prompt's words, sorted, to where that set stands
    texts: list[str] = []  # the first text of each set
    place_of = array("i")  # each prompt's set
    for prompt in prompts:
        text = normalise_prompt(prompt)
        words = {numbers.setdefault(word, len(numbers)) for word in text.split()}
        place = places.setdefault(array("i", sorted(words)).tobytes(), len(places))
        if place == len(texts):
            texts.append(text)
        texts[place] = min(texts[place], text)
        place_of.append(place)
    links = np.fromiter(_similar(list(places), similarity), dtype=np.dtype((np.int64, 2)))
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(len(places), len(places)))
    labels = connected_components(graph, directed=False)[1].tolist()
    first: dict[int, str] = {}
    for label, text in zip(labels, texts, strict=True):
        first[label] = min(first.get(label, text), text)
    return [first[labels[place]] for place in place_of]


def _similar(sets: list[bytes], similarity: float) -> Iterator[tuple[int, int]]:
    """Yield the pairs of sets with at least this Jaccard similarity; a set is its members, 32-bit numbers, as bytes.

    Reference:
        Chaudhuri et al. 2006 (prefix filter) and Bayardo et al. 2007 (All-Pairs), for sets.
    """
    counts = Counter(word for words in sets for word in _members(words))
    by_word: dict[int, list[int]] = defaultdict(list)
    for number in sorted(range(len(sets)), key=lambda number: len(sets[number])):
        words = frozenset(_members(sets[number]))
        rarest = sorted(words, key=lambda word: (counts[word], word))
        # At least similarity * size words are shared: they cannot all be among the last ones.
        rarest = rarest[: len(words) - math.ceil(similarity * len(words) - 1e-9) + 1]
        for other in {other for word in rarest for other in by_word[word]}:
            others = _members(sets[other])
            shared = len(words.intersection(others))
            if shared >= similarity * (len(words) + len(others) - shared) - 1e-9:
                yield other, number
        for word in rarest:
            by_word[word].append(number)


def _members(words: bytes) -> "array[int]":
    return array("i", words)


def assign_splits(
    prompts: Mapping[str, str],
    fractions: Mapping[str, float] | None = None,
    seed: int = 0,
    similarity: float = SIMILARITY,
) -> dict[str, str]:
    """Give every item a split.

    Args:
        prompts (`Mapping[str, str]`): `item_id` to prompt.
        fractions (`Mapping[str, float]`, *optional*):
            Split to its share of the groups; train 0.9, validation 0.05, test 0.05.
        seed (`int`, defaults to 0): Another seed, another draw.
        similarity (`float`, defaults to 0.8): See [`near_duplicates`].

    Returns:
        `dict[str, str]`: `item_id` to split.
    """
    fractions = FRACTIONS if fractions is None else fractions
    check_fractions(fractions)
    groups = near_duplicates(prompts.values(), similarity)
    return {item_id: _draw(f"{seed} {group}", fractions) for item_id, group in zip(prompts, groups, strict=True)}


def check_fractions(fractions: Mapping[str, float]) -> None:
    """Refuse shares that are none.

    Args:
        fractions (`Mapping[str, float]`): Split to its share.

    Raises:
        ValueError: If they are negative or do not add up to 1.
    """
    if not fractions or min(fractions.values()) < 0 or not math.isclose(sum(fractions.values()), 1):
        raise ValueError(f"The fractions of the splits must be positive and add up to 1, got {dict(fractions)}.")


def _draw(key: str, fractions: Mapping[str, float]) -> str:
    """Draw a split with a number from 0 to 1 that depends on the key alone."""
    number = int.from_bytes(hashlib.sha256(key.encode("utf-8", errors="surrogatepass")).digest()[:7], "big") / 2**56
    for name, fraction in fractions.items():
        number -= fraction
        if number < 0:
            return name
    return max(fractions, key=lambda name: fractions[name])  # rounding of the fractions


def write_splits(
    path: Path, split_of: Mapping[str, str], fractions: Mapping[str, float], seed: int, similarity: float = SIMILARITY
) -> None:
    """Record a draw: the settings, and the items of every split.

    Args:
        path (`Path`): The JSON file.
        split_of (`Mapping[str, str]`): From [`assign_splits`].
        fractions (`Mapping[str, float]`): With which it was called.
        seed (`int`): With which it was called.
        similarity (`float`, defaults to 0.8): With which it was called.
    """
    items = {name: sorted(item for item, split in split_of.items() if split == name) for name in fractions}
    rule = "prompts whose sets of words have at least this Jaccard similarity share a split, also through others"
    record = {"seed": seed, "fractions": dict(fractions), "similarity": similarity, "rule": rule, "items": items}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

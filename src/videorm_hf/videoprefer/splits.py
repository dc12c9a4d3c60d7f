"""Splits by prompt: near-duplicates stay together, the draw is seeded, and the outcome is recorded.

Two prompts are near-duplicates if their words, as sets after Unicode and case folding, have a Jaccard similarity of at
least 0.8; what is linked through others counts as well. A group's split follows from the seed and the group alone, so
items that are added later move nobody, unless they link two groups.
"""

import hashlib
import json
import math
import re
import unicodedata
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


def near_duplicates(prompts: Iterable[str], similarity: float = SIMILARITY) -> dict[str, str]:
    """Group prompts that are, directly or through others, near-duplicates.

    The comparison is exact and fast: sets with this similarity share at least one of their rarest words, so only
    prompts that do are compared.

    Args:
        prompts (`Iterable[str]`): The prompts, in any order and with repetitions.
        similarity (`float`, defaults to 0.8): Least Jaccard similarity of two near-duplicates, in `(0, 1]`.

    Returns:
        `dict[str, str]`: prompt to the name of its group, the same for any order of the prompts.

    Raises:
        ValueError: If `similarity` is not in `(0, 1]`.
    """
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity must be above 0 and at most 1, got {similarity}.")
    normal = {prompt: normalise_prompt(prompt) for prompt in prompts}
    words_of: dict[frozenset[str], list[str]] = defaultdict(list)
    for text in sorted(set(normal.values())):
        words_of[frozenset(text.split())].append(text)
    sets = list(words_of)
    links = np.array(list(_similar(sets, similarity)), dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(len(sets), len(sets)))
    _, labels = connected_components(graph, directed=False)
    first: dict[int, str] = {}
    for label, words in zip(labels.tolist(), sets, strict=True):
        first[label] = min(first.get(label, words_of[words][0]), words_of[words][0])
    group = {
        text: first[label] for label, words in zip(labels.tolist(), sets, strict=True) for text in words_of[words]
    }
    return {prompt: group[text] for prompt, text in normal.items()}


def _similar(sets: list[frozenset[str]], similarity: float) -> Iterator[tuple[int, int]]:
    """Yield the pairs of sets with at least this Jaccard similarity.

    Reference:
        Chaudhuri et al. 2006 (prefix filter) and Bayardo et al. 2007 (All-Pairs), for sets.
    """
    counts = Counter(word for words in sets for word in words)
    by_word: dict[str, list[int]] = defaultdict(list)
    for number in sorted(range(len(sets)), key=lambda number: len(sets[number])):
        words = sets[number]
        rarest = sorted(words, key=lambda word: (counts[word], word))
        # At least similarity * size words are shared: they cannot all be among the last ones.
        rarest = rarest[: len(words) - math.ceil(similarity * len(words) - 1e-9) + 1]
        for other in {other for word in rarest for other in by_word[word]}:
            shared = len(words & sets[other])
            if shared >= similarity * (len(words) + len(sets[other]) - shared) - 1e-9:
                yield other, number
        for word in rarest:
            by_word[word].append(number)


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
    split_of = {group: _draw(f"{seed} {group}", fractions) for group in set(groups.values())}
    return {item_id: split_of[groups[prompt]] for item_id, prompt in prompts.items()}


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
    number = int.from_bytes(hashlib.sha256(key.encode("utf-8", errors="surrogatepass")).digest()[:7]) / 2**56
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

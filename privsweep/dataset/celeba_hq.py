"""CelebA-HQ (Karras et al., 2018) as CelebAMask-HQ ships it, sorted by the person shown.

One folder holds ``CelebA-HQ-img/0.jpg`` and so on, beside two lists of fields separated by blanks:
``CelebA-HQ-to-CelebA-mapping.txt`` (``idx orig_idx orig_file``, with that heading) and ``identity_CelebA.txt`` of
CelebA (``orig_file identity``, without one; Liu et al., 2015).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from privsweep.dataset.image_tree import Tree
from privsweep.dataset.npz_format import held_out
from privsweep.interface.errors import AbsentError, UserError

IMAGES, MAPPING, IDENTITIES = "CelebA-HQ-img", "CelebA-HQ-to-CelebA-mapping.txt", "identity_CelebA.txt"
HEADING = ["idx", "orig_idx", "orig_file"]
LEAST = 5  # images of an identity: one of them is a fifth


def scan_identities(root: Path, test_fraction: float, what: str) -> Tree:
    """The images of all identities that have at least five, the most frequent identity first.

    Equally frequent ones stand in the order of their numbers. The split takes ``test_fraction`` of every identity,
    the same images under every seed. Raises UserError, opening with ``what``, where something is missing or malformed.
    """
    people = _people(root, what)
    often = sorted((p for p in people if len(people[p]) >= LEAST), key=lambda p: (-len(people[p]), p))
    if len(often) < 2:
        raise UserError(f"{what}: {len(often)} identities have {LEAST} images or more; give it the whole of CelebA-HQ")
    train: list[tuple[Path, int]] = []
    test: list[tuple[Path, int]] = []
    for k, person in enumerate(often):
        mask = held_out(len(people[person]), test_fraction, "celeba_hq", person)
        for number, out in zip(sorted(people[person]), mask, strict=True):
            file = root / IMAGES / f"{number}.jpg"
            if not file.is_file():
                raise AbsentError(f"{what}: {file} is not there but in {MAPPING}; unpack all images")
            (test if out else train).append((file, k))
    return Tree(tuple(map(str, often)), tuple(train), tuple(test))


def _people(root: Path, what: str) -> dict[int, list[int]]:
    """The number of an identity -> the numbers of its images."""
    identity_of = {file: _number(word, IDENTITIES, what) for file, word in _fields(root / IDENTITIES, 2, what)}
    people = defaultdict(list)
    for idx, _, file in (fields for fields in _fields(root / MAPPING, 3, what) if fields != HEADING):
        if file not in identity_of:
            raise UserError(f"{what}: {file} of {MAPPING} is not in {IDENTITIES}; get the whole list")
        people[identity_of[file]].append(_number(idx, MAPPING, what))
    return people


def _fields(path: Path, count: int, what: str) -> Iterator[list[str]]:
    """What each line of a list has."""
    if not path.is_file():
        raise AbsentError(f"{what}: {path.name} is not there; the folder must have it beside {IMAGES}/")
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        fields = line.split()
        if len(fields) != count:
            raise UserError(
                f"{what}: line {number} of {path.name} has {len(fields)} fields, not {count}; get the list anew"
            )
        yield fields


def _number(word: str, name: str, what: str) -> int:
    if not word.isdecimal():
        raise UserError(f"{what}: {name} has {word} where a number must be; get the list anew")
    return int(word)

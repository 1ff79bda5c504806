"""Splits of molecules by scaffold. There are a dozen of that name; here each has one of its own."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graphnorms.data.text_format import as_name, count, some
from graphnorms.errors import DatasetError, unknown_name

RULES: Final = ("hashed", "deepchem", "balanced")
PREFIX: Final = "scaffold:"


@dataclass(frozen=True)
class ScaffoldSplit:
    """A rule that divides molecules by their Bemis-Murcko scaffolds, 80/10/10.

    Molecules of one scaffold are in one part; those without a ring have one scaffold, the empty
    one. The scaffolds are gone through in an order, and each goes to the training part where it
    still fits, else to the validation part where it fits, else to the test part.

    | rule | order of the scaffolds | scaffold of |
    |---|---|---|
    | `hashed` | the one with most molecules first, equal ones by a hash of the scaffold | the largest component, neutralized |
    | `balanced` | those of more than 5% of the molecules first, all else by a hash of seed and scaffold | likewise |
    | `deepchem` | the one with most molecules first, of equal ones that whose first row is the last | the molecule as it is given |

    `hashed` and `balanced` do not depend on the order of the rows. `deepchem` does, as deepchem's
    `ScaffoldSplitter` and MoleculeNet do, whose indices these are. Scores are only to be compared
    with those of the same indices: the same model differs by as much between two rules as between
    two models.

    Args:
        rule: One of the above.
        seeds: Of `balanced`: a split for each.

    Source: Bemis & Murcko 1996, https://doi.org/10.1021/jm9602928; Wu et al. 2018 (MoleculeNet),
    https://arxiv.org/abs/1703.00564; of the balanced one Yang et al. 2019 (chemprop),
    https://arxiv.org/abs/1904.01561.
    """  # noqa: E501

    rule: str
    seeds: tuple[int, ...] = (0,)

    @classmethod
    def named(cls, name: str) -> ScaffoldSplit:
        """Read `scaffold:RULE` or `scaffold:balanced:SEED,SEED,…`.

        Raises:
            ValueError: There is no such rule, or the seeds are not different integers ≥ 0.
        """
        rule, _, seeds = name.removeprefix(PREFIX).partition(":")
        if not name.startswith(PREFIX) or rule not in RULES:
            raise unknown_name("split", name, [PREFIX + known for known in RULES])
        if not seeds:
            return cls(rule)
        texts = seeds.split(",")
        if rule != "balanced" or not all(map(str.isdecimal, texts)) or len({*texts}) < len(texts):
            raise ValueError(
                f"split {name!r}: expected {PREFIX}balanced:0,1,2, with different seeds; the other "
                "rules have none"
            )
        return cls(rule, tuple(map(int, texts)))

    def divide(self, scaffolds: Sequence[str]) -> NDArray[np.int8]:
        """The part of each molecule: 0 training, 1 validation, 2 test.

        Args:
            scaffolds: Of each molecule, by any name; empty where it has no ring.

        Returns:
            `(molecules,)`, or with several seeds `(molecules, seeds)`.
        """
        members = defaultdict(list)
        for number, scaffold in enumerate(scaffolds):
            members[scaffold].append(number)
        splits = [
            _fill([members[name] for name in self._order(members, seed)], self.rule)
            for seed in self.seeds
        ]
        return splits[0] if len(splits) == 1 else np.stack(splits, axis=1)

    def _order(self, members: dict[str, list[int]], seed: int) -> list[str]:
        molecules = sum(map(len, members.values()))
        if self.rule == "deepchem":
            return sorted(members, key=lambda s: (len(members[s]), members[s][0]), reverse=True)
        if self.rule == "hashed":
            return sorted(members, key=lambda s: (-len(members[s]), _hash(s)))
        return sorted(members, key=lambda s: (20 * len(members[s]) <= molecules, _hash(s, seed)))

    def scaffolds(self, smiles: Sequence[str]) -> list[str]:
        """The scaffold of each molecule, as canonical SMILES.

        Raises:
            DatasetError: RDKit is not installed, or does not parse some of the SMILES.
        """
        try:
            from rdkit import Chem, rdBase
            from rdkit.Chem.MolStandardize import rdMolStandardize
            from rdkit.Chem.Scaffolds import MurckoScaffold
        except ImportError:
            raise DatasetError(
                "splits by scaffold take RDKit: pip install 'graphnorms[molecules]'"
            ) from None
        largest, neutral = rdMolStandardize.LargestFragmentChooser(), rdMolStandardize.Uncharger()
        found, wrong = [], []
        with rdBase.BlockLogs():
            for number, text in enumerate(smiles):
                molecule = Chem.MolFromSmiles(text)
                if molecule is None or not molecule.GetNumAtoms():
                    wrong.append(f"{number}: {as_name(text)!r}")
                    continue
                if self.rule != "deepchem":
                    molecule = neutral.uncharge(largest.choose(molecule))
                found.append(MurckoScaffold.MurckoScaffoldSmiles(mol=molecule))
        if wrong:
            raise DatasetError(
                f"RDKit does not parse the SMILES of {len(wrong)} of "
                f"{count(len(smiles), 'molecule')} ({some(wrong, few=4)})"
            )
        return found


def _fill(groups: Sequence[Sequence[int]], rule: str) -> NDArray[np.int8]:
    molecules = sum(map(len, groups))
    split = np.full(molecules, 2, dtype=np.int8)
    trained = validated = 0
    for group in groups:
        # What training leaves free goes to validation, but for chemprop's rule.
        fits = (
            validated + len(group) <= 0.1 * molecules
            if rule == "balanced"
            else trained + validated + len(group) <= 0.9 * molecules
        )
        if trained + len(group) <= 0.8 * molecules:
            split[group] = 0
            trained += len(group)
        elif fits:
            split[group] = 1
            validated += len(group)
    return split


def _hash(scaffold: str, seed: int | None = None) -> str:
    text = scaffold if seed is None else f"{seed} {scaffold}"
    return hashlib.sha256(text.encode()).hexdigest()

"""Splits of molecules by scaffold, with a distinct name for each rule in use."""

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

    Molecules with the same scaffold are in the same part; those without a ring share the empty scaffold. The scaffolds are processed in some order, and each goes to the training part if it fits, else to the validation part if it fits, else to the test part.

    | rule | order of the scaffolds | scaffold of |
    |---|---|---|
    | `hashed` | by number of molecules, descending, ties by a hash of the scaffold | the largest component, neutralized |
    | `balanced` | those with more than 5% of the molecules first, then by a hash of seed and scaffold | likewise |
    | `deepchem` | by number of molecules, descending, ties by the first row, descending | the molecule as given |

    `hashed` and `balanced` do not depend on the order of the rows. `deepchem` does; it gives the indices of deepchem's `ScaffoldSplitter` and MoleculeNet. Compare scores only for the same indices: two rules differ as much for one model as two models for one rule.

    Args:
        rule: One of the above.
        seeds: The seeds of `balanced`, one split each.

    Source: Bemis & Murcko 1996, https://doi.org/10.1021/jm9602928; Wu et al. 2018 (MoleculeNet),
    https://arxiv.org/abs/1703.00564; for `balanced` Yang et al. 2019 (chemprop),
    https://arxiv.org/abs/1904.01561.
    """  # noqa: E501

    rule: str
    seeds: tuple[int, ...] = (0,)

    @classmethod
    def named(cls, name: str) -> ScaffoldSplit:
        """Parse `scaffold:RULE` or `scaffold:balanced:SEED,SEED,…`.

        Raises:
            ValueError: The rule is unknown, or the seeds are not distinct integers ≥ 0.
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
        """Return the part of each molecule: 0 training, 1 validation, 2 test.

        Args:
            scaffolds: Name of each molecule's scaffold; empty if it has no ring.

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
        """Compute the scaffold of each molecule, as canonical SMILES.

        Raises:
            DatasetError: RDKit is not installed, or does not parse some of the SMILES.
        """
        try:
            from rdkit import Chem, rdBase
            from rdkit.Chem.MolStandardize import rdMolStandardize
            from rdkit.Chem.Scaffolds import MurckoScaffold
        except ImportError:
            raise DatasetError(
                "splits by scaffold take RDKit: pip install 'graphnorms[chem]'"
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
        # Free space of the training part goes to validation, except in chemprop's rule.
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

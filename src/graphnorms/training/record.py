"""What a trial leaves behind: data, never a live object."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Record:
    """The outcome of one trial.

    Args:
        key: Content hash of `config`.
        config: `TrialConfig.to_dict()`.
        status: `"done"`, or `"failed"` with the cause in `reason`.
        reason: One line, empty when the trial was done. A loss that is not finite is a failure.
        history: One list per quantity, one entry per epoch finished: `train_loss` (averaged over
            the epoch, in training mode), `train_score` (of the training items after the epoch, in
            eval mode; not in stage `"select"`), `validation_loss`, `validation_score`,
            `learning_rate`. Scores by `config["metric"]`.
        outcome: `epoch` (from 1), the one with the best validation score, of equals that with the
            lowest validation loss; and there `validation_score`, `validation_loss`, and in stage
            `"final"` `test_score` and `test_loss`.
        target_scores: Of several regression targets the MAE or RMSE of each by name, in its own
            unit, under `"validation"` and, in stage `"final"`, `"test"`; at the same epoch.
        counts: `parameters`, `train_items`, `validation_items`, `test_items`, `steps_per_epoch`.
            Items are graphs, or labelled nodes where nodes are what is predicted; those of the
            test count in stage `"final"` only.
        environment: `python`, `torch`, `graphnorms`, `platform`, `processor`, `threads`.
        timing: Measured times in seconds, the only part that differs between two runs of one
            config: `train` and `evaluation` (lists, per epoch) and `total`.
    """

    key: str
    config: dict[str, Any]
    status: str
    reason: str = ""
    history: dict[str, list[float]] = field(default_factory=dict)
    outcome: dict[str, float] = field(default_factory=dict)
    target_scores: dict[str, dict[str, float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the record as one line of JSON; NaN and infinities become null."""
        return json.dumps(_finite(asdict(self)), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Read what `to_json` wrote.

        Raises:
            ValueError: The line is not JSON, or not a record.
        """
        data = json.loads(line)
        try:
            record = cls(**data)
        except TypeError as error:
            raise ValueError(f"not a trial record: {error}") from None
        for name, value in vars(record).items():
            kind = str if name in ("key", "status", "reason") else dict
            if not isinstance(value, kind):
                raise ValueError(f"not a trial record: {name} is of type {type(value).__name__}")
        return record

    def without_timing(self) -> dict[str, Any]:
        """Everything that is the same on every run of the config."""
        data = asdict(self)
        del data["timing"]
        return data


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value

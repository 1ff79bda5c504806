"""`Watch` as a callback of Lightning."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any, Final

from torch import Tensor

from graphnorms.probes.blow_up import BlowUp
from graphnorms.probes.watch import Watch

_PACKAGES: Final = ("lightning.pytorch", "pytorch_lightning")


def watch_callback(**options: Any) -> Any:
    """Make a callback of Lightning that watches a training.

    ```python
    callback = graphnorms.watch_callback()
    Trainer(callbacks=[callback]).fit(module)
    print(callback.report())
    ```

    A step is one of the optimizer, also with `accumulate_grad_batches`; the loss is what
    `training_step` returned last. `callback.blow_up` and `callback.report()` are those of `Watch`.
    With `stop=True` the training ends with `BlowUpError`.

    Args:
        options: Those of `Watch`: `steps`, `every`, `stop`.

    Raises:
        ImportError: Lightning is not installed.
    """
    lightning = _lightning()

    class WatchCallback(lightning.Callback):  # type: ignore[misc, name-defined]
        """Watches the training of a LightningModule."""

        def __init__(self) -> None:
            super().__init__()
            self.watch: Watch | None = None
            self._steps = 0

        @property
        def blow_up(self) -> BlowUp | None:
            """The blow-up, if there was one."""
            return self.watch.blow_up if self.watch is not None else None

        def report(self) -> str:
            """Say what is known, see `Watch.report`."""
            return "no training was watched yet" if self.watch is None else self.watch.report()

        def on_train_start(self, trainer: Any, module: Any) -> None:
            """Start to watch; the module is on its device."""
            self.watch = Watch(module, **options)
            self._steps = trainer.global_step

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            """Record a step of the optimizer."""
            loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
            if trainer.global_step == self._steps or not isinstance(loss, Tensor):
                return
            self._steps = trainer.global_step
            assert self.watch is not None
            self.watch.step(loss)

        def teardown(self, trainer: Any, module: Any, stage: str) -> None:
            """Read what is left, and remove the hooks, also after an error."""
            if self.watch is not None:
                self.watch.finish()
                self.watch.close()

    return WatchCallback()


def _lightning() -> Any:
    """Import Lightning under the name that is in use, or else under one that is installed."""
    for name in sorted(_PACKAGES, key=lambda name: name not in sys.modules):
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            return importlib.import_module(name)
    raise ImportError(
        "watch_callback needs Lightning: pip install 'graphnorms[lightning]'; without it use "
        "graphnorms.Watch"
    )

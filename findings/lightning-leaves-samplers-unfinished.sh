#!/usr/bin/env bash
# lightning 2.6.6, torch 2.13.0: a Trainer takes as many batches as len(loader) says and never asks
# for one more, so what a batch sampler does after its last batch (count the epoch, draw the next
# order) never runs. A plain loop over the same DataLoader runs it once an epoch. Where the sampler
# has no length, the Trainer asks once more and it does run. Exits with 1 when Lightning does
# otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 lightning==2.6.6
cat > "$folder/fit.py" <<'END'
import logging

import lightning
import torch
from torch.utils.data import DataLoader

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
EPOCHS = 3


class Batches:
    def __init__(self):
        self.begun = self.finished = 0

    def __iter__(self):
        self.begun += 1
        yield [0, 1]
        yield [2, 3]
        self.finished += 1


class Sized(Batches):
    def __len__(self):
        return 2


class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, index):
        return self.layer(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def told(how, sampler):
    print(f"{how}: {sampler.begun} epochs begun, {sampler.finished} finished")


for kind in (Sized, Batches):
    sampler = kind()
    loader = DataLoader(torch.randn(4, 1), batch_sampler=sampler)
    for _ in range(EPOCHS):
        for _ in loader:
            pass
    told(f"a loop, {kind.__name__}", sampler)
    sampler = kind()
    loader = DataLoader(torch.randn(4, 1), batch_sampler=sampler)
    trainer = lightning.Trainer(max_epochs=EPOCHS, accelerator="cpu", logger=False,
                                enable_checkpointing=False, enable_progress_bar=False,
                                enable_model_summary=False)
    trainer.fit(Model(), loader)
    told(f"a Trainer, {kind.__name__}", sampler)
END
expected='a loop, Sized: 3 epochs begun, 3 finished
a Trainer, Sized: 3 epochs begun, 0 finished
a loop, Batches: 3 epochs begun, 3 finished
a Trainer, Batches: 3 epochs begun, 3 finished'
found=$("$folder/venv/bin/python" -W ignore "$folder/fit.py" 2>/dev/null)
echo "$found"
[ "$found" = "$expected" ]

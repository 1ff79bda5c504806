# %% [markdown]
# # A table of molecules
#
# **You have** a CSV file with a column of SMILES and a column of measured activities, as a
# project exports it. **You want** a graph network that predicts the activity, and to know whether
# its normalization matters.
#
# The molecules here are real: 1017 aryl sulfonamides with a measured pIC50, document
# CHEMBL2321810 of ChEMBL. RDKit's package carries them as an example for Free–Wilson analysis.
# You need `pip install 'graphnorms[chem]'`.

# %%
import csv
from pathlib import Path

from rdkit import RDConfig

import graphnorms
from graphnorms.lab.predict import predict

source = Path(RDConfig.RDContribDir) / "FreeWilson" / "data"
activity = dict(list(csv.reader((source / "CHEMBL2321810_act.csv").read_text().splitlines()))[1:])
table = Path("runs/sulfonamides.csv")
table.parent.mkdir(exist_ok=True)
with table.open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["smiles", "pIC50"])
    for line in (source / "CHEMBL2321810.smi").read_text().splitlines():
        smiles, name = line.split()
        writer.writerow([smiles, activity[name]])
print("\n".join(table.read_text().splitlines()[:3]))

# %% [markdown]
# ## What is in it?
#
# Look at the data before you train. On the command line this is `graphnorms data
# runs/sulfonamides.csv`, which also says how far simple models get.

# %%
graphs = graphnorms.load_dataset(table, smiles="smiles", target="pIC50")
print(graphs.describe())

# %% [markdown]
# ## Three norms, six folds
#
# Every norm gets the same folds, initial weights, batches and learning rates. Its rate is chosen
# on validation data inside each fold; the test fold is seen once. On the command line:
#
# ```sh
# graphnorms compare runs/sulfonamides.csv --target pIC50 --norms none,batch,graph --folds 6
# ```
#
# Eight epochs, two rates and a narrow network keep this page short. For a decision of yours, leave
# them out: the defaults train longer.

# %%
comparison = graphnorms.compare(
    table,
    target="pIC50",
    norms=["none", "batch", "graph"],
    learning_rate=[0.003, 0.01],
    folds=6,
    epochs=8,
    layers=3,
    hidden=32,
    out="runs/sulfonamides",
)
print(comparison)

# %% [markdown]
# The table has the error in the unit of the column, pIC50, with a 95% interval over folds.
# **chance** is the error of a constant answer. Read the sentence before the numbers: BatchNorm is
# better than both others, and the difference is more than chance. After eight epochs the network
# without a norm has learned next to nothing, so part of what the norm buys is an earlier start.
#
# Each mark below is a fold. BatchNorm is ahead in every one of them, which convinces; a norm that
# wins on average and loses in half of the folds would not.

# %%
comparison.plot("score_by_pair")

# %% [markdown]
# ## Use the model
#
# `export` trains the best trial of a norm once more and writes its weights. Then predict a
# molecule of your own: here the first of the table, and the same with chlorine in place of its
# nitrile.

# %%
best = comparison.verdict.best
print("exported:", best)
comparison.export("runs/best.safetensors", norm=best)
own = Path("runs/own.csv")
own.write_text(
    "smiles\n"
    "O=S(=O)(Nc1cccs1)c2ccc(Oc3ccccc3c4ccccc4)c(c2)C#N\n"
    "O=S(=O)(Nc1cccs1)c2ccc(Oc3ccccc3c4ccccc4)c(c2)Cl\n"
)
print(predict("runs/best.safetensors", str(own)).to_csv())

# %% [markdown]
# ## What this does not say
#
# - All molecules belong to one series. Folds cut at random put close relatives on both sides, so
#   the error on a *new* series will be larger: [split by scaffold](../splits.md) asks for that.
# - Three norms in one architecture at one size. The order can differ in a deeper or wider model.
# - Assays repeat to about 0.3 log units at best; a difference between norms far below that is of
#   no use.

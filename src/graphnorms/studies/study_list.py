"""The studies by name, in the order in which they are listed; each is imported on first use."""

from __future__ import annotations

import importlib
from typing import Final

from graphnorms.errors import unknown_name
from graphnorms.studies.study import Study

TOPICS: Final = {
    "activations": "Does BatchNorm keep the distributions of activations still?",
    "convergence": "Do GIN and GCN train faster with a norm, and fastest with GraphNorm?",
    "learning-rate": "Does normalization allow larger learning rates?",
    "initialization": "Does normalization make the scale of the initial weights matter less?",
    "gradient-flow": "Does normalization keep gradients from vanishing and exploding?",
    "regularization": "Does BatchNorm regularize, through the noise of its batches?",
    "covariate-shift": "Does BatchNorm reduce internal covariate shift, and does that matter?",
    "landscape": "Does BatchNorm smooth the loss, and make gradients predictive?",
    "sequence-length": "Does LayerNorm suit recurrent networks better than BatchNorm?",
    "batch-size": "Does BatchNorm need large batches, and LayerNorm not?",
    "residual-gradients": "Are gradients near the output of a post-LN transformer large?",
    "warmup": "Does a post-LN transformer need a warm-up, and a pre-LN one not?",
    "stylization": "Is InstanceNorm better than BatchNorm for stylization?",
    "preconditioning": "Does subtracting the mean precondition the aggregation?",
    "batch-noise": "Are batch statistics noisier on graphs than on images?",
    "mean-information": "Does subtracting the mean cost expressiveness on regular graphs?",
    "alpha": "Does a learned shift beat a full one where the mean tells something?",
    "placement": "Does it matter where the norm stands?",
    "depth": "Does normalization hold over-smoothing off?",
    "bounded": "Do DyT and Derf stand in for LayerNorm, on graphs as on sequences?",
    "forces": "Do LayerNorm and RMSNorm help models of energies and forces?",
}
"""What each study asks, in one line."""

NAMES: Final = tuple(TOPICS)

LIMITS: Final = {
    "activations": "The shape, which a norm does not set, drifts ten times less than the quantiles "
    "do; only the GIN refutes.",
    "convergence": "The generated ego networks are easy: they are learned within some 30 steps, so "
    "that they test the beginning of training.",
    "batch-size": "Without a norm the best rate for batches of 128 is the largest of the grid.",
    "residual-gradients": "On tinyshakespeare (--data) one interval is a little too wide: from 8 "
    "to 12 layers the gradient with pre-LN falls to 0.88 [0.77, 1.01] of itself.",
    "warmup": "With --full, over ten seeds, what is asked of the sequence transformer holds; the "
    "graph transformer stays open. There the last 12 batches, by which a rate is judged, are too "
    "few: a guess costs 0.80 to 1.48 of the variance on them, seed by seed, against the limit of "
    "0.8, so that three of the ten seeds, one of the five by default, train at every rate.",
    "stylization": "The content is that of the crop with its brightness, which no network can give "
    "that is invariant to it: a part of InstanceNorm's higher loss holds by construction.",
    "preconditioning": "It is so of small molecules. On PROTEINS, and of GCN on IMDB-BINARY "
    "(--data), subtracting the mean makes the condition worse, and descent slower.",
    "batch-noise": "At the last norm of the ConvNet, where few pixels are left, the batch mean of "
    "images is as noisy as that of graphs.",
    "alpha": "With --full, four times as long and over thirty seeds, it is not confirmed: on "
    "nearly complete graphs a full shift catches up (0.93 against 0.96), on nearly regular ones it "
    "does not (0.71 against 0.85).",
    "depth": "It is confirmed by a narrow margin: with PairNorm one seed of twelve collapses.",
    "bounded": "At this size no model needs a norm: without one the transformers learn as much as "
    "with LayerNorm, so that there is little to stand in for. 160 steps are the beginning of "
    "training. Shorter runs of two other seeds were seen before the rule was written.",
    "forces": "The models have two blocks, and 120 steps are the beginning of training; the best "
    "rate is mostly the larger one of the two. What norms do for deep models, or in long training, "
    "it does not say. Its worlds were run after the measurement; its rule was fixed before.",
}
"""What limits the verdict of a study."""


def study_named(name: str) -> Study:
    """Return a study by name: the `STUDY` of the module of that name.

    Raises:
        ValueError: There is none.
    """
    if name not in NAMES:
        raise unknown_name("study", name, NAMES)
    module = importlib.import_module(f"graphnorms.studies.claim_{name.replace('-', '_')}")
    study: Study = module.STUDY
    return study

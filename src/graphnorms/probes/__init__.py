"""Probes: measurements in any model, which leave it unchanged.

Each takes the model and a function that runs it or computes its loss, and restores parameters,
buffers and random numbers; gradients are not touched.
"""

from graphnorms.probes.activations import (
    QUANTILES,
    activation_quantiles,
    quantile_drift,
    quantiles,
)
from graphnorms.probes.batch_noise import (
    BatchNoise,
    batch_noise,
    expected_batch_noise,
    layer_batch_noise,
)
from graphnorms.probes.blow_up import BlowUp
from graphnorms.probes.capture import captured
from graphnorms.probes.covariate_shift import LayerShift, covariate_shift
from graphnorms.probes.dirichlet import dirichlet_energy
from graphnorms.probes.gradients import activation_gradient_norms, gradient_norms
from graphnorms.probes.graph_moments import GraphMoments
from graphnorms.probes.landscape import (
    STEPS,
    AlongGradient,
    Eigenvalue,
    LossPlane,
    along_gradient,
    filter_direction,
    hessian_vector_product,
    largest_eigenvalue,
    loss_plane,
)
from graphnorms.probes.mean_information import MeanInformation, mean_information
from graphnorms.probes.ridge import explained
from graphnorms.probes.spectra import (
    Spectrum,
    aggregation_matrices,
    interlacing_violations,
    spectra,
)
from graphnorms.probes.state import layers_of
from graphnorms.probes.watch import Watch

__all__ = [
    "QUANTILES",
    "STEPS",
    "AlongGradient",
    "BatchNoise",
    "BlowUp",
    "Eigenvalue",
    "GraphMoments",
    "LayerShift",
    "LossPlane",
    "MeanInformation",
    "Spectrum",
    "Watch",
    "activation_gradient_norms",
    "activation_quantiles",
    "aggregation_matrices",
    "along_gradient",
    "batch_noise",
    "captured",
    "covariate_shift",
    "dirichlet_energy",
    "expected_batch_noise",
    "explained",
    "filter_direction",
    "gradient_norms",
    "hessian_vector_product",
    "interlacing_violations",
    "largest_eigenvalue",
    "layer_batch_noise",
    "layers_of",
    "loss_plane",
    "mean_information",
    "quantile_drift",
    "quantiles",
    "spectra",
]

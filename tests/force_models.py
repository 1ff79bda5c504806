"""Force fields that others wrote, whose norms `replace_norms(model, "fused")` replaces.

`tests/fused_models.py` compares them, and names what they need.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

ATOMS: Final = (9, 5, 12)
"""Atoms of the molecules."""

Outputs = Mapping[str, Tensor]


class Subject(NamedTuple):
    """A model, and what it is called with."""

    model: nn.Module
    call: Callable[[nn.Module], Outputs]
    """Returns energies, forces and what else may differ."""


def positions(dtype: torch.dtype) -> Tensor:
    """Atoms of a few molecules, none too near to another: `(atoms, 3)`."""
    random = torch.Generator().manual_seed(0)
    grid = torch.cartesian_prod(*[torch.arange(3.0)] * 3)
    moved = [1.4 * grid[:atoms] for atoms in ATOMS]
    made = torch.cat(moved)
    return (made + 0.2 * torch.randn(made.shape, generator=random)).to(dtype)


def batch() -> Tensor:
    """The molecule of each atom."""
    return torch.arange(len(ATOMS)).repeat_interleave(torch.tensor(ATOMS))


def numbers() -> Tensor:
    """Atomic numbers of hydrogen, carbon and oxygen."""
    return torch.tensor([1, 6, 8])[torch.arange(sum(ATOMS)) % 3]


def molecules() -> Iterator[tuple[Tensor, Tensor]]:
    """Positions and atomic numbers of each molecule."""
    return zip(positions(torch.float64).split(ATOMS), numbers().split(ATOMS), strict=True)


def edges(radius: float, pos: Tensor | None = None, of: Tensor | None = None) -> Tensor:
    """Pairs of atoms of a molecule that are near: `(2, edges)`."""
    pos = positions(torch.float64) if pos is None else pos
    of = batch() if of is None else of
    near = torch.cdist(pos, pos) < radius
    return (near & (of.unsqueeze(1) == of) & ~torch.eye(len(pos), dtype=torch.bool)).nonzero().T


def with_forces(energy: Callable[[Tensor], Tensor]) -> Outputs:
    """Energies of positions, and forces that are their gradient."""
    pos = positions(torch.get_default_dtype()).requires_grad_()
    energies = energy(pos)
    (gradient,) = torch.autograd.grad(energies.sum(), pos, create_graph=True)
    return {"energy": energies, "forces": -gradient}


def per_molecule(atoms: Tensor) -> Tensor:
    """Sum a column of numbers over the atoms of each molecule."""
    return atoms.new_zeros(len(ATOMS)).index_add(0, batch(), atoms.flatten())


def gate_network() -> Subject:
    """e3nn's gate network (`v2106`), with e3nn's BatchNorm behind every gate."""
    from e3nn import o3
    from e3nn.nn import BatchNorm
    from e3nn.nn.models.v2106.gate_points_message_passing import Compose, MessagePassing

    hidden = "6x0e+4x0o+4x1o+4x1e+2x2e"
    spheres = o3.Irreps("1x0e+1x1o+1x2e")
    model = MessagePassing(["3x0e", hidden, hidden, "1x0e"], "1x0e", spheres, [4, 8], 4.0)
    for i, layer in enumerate([*model.layers][:-1]):
        model.layers[i] = Compose(layer, BatchNorm(layer.second.irreps_out))

    def call(model: nn.Module) -> Outputs:
        source, target = edges(2.5)
        kinds = torch.eye(3)[torch.arange(sum(ATOMS)) % 3]
        ones = torch.ones(sum(ATOMS), 1)

        def energy(pos: Tensor) -> Tensor:
            vectors = pos[target] - pos[source]
            lengths = vectors.norm(dim=1, keepdim=True)
            scalars = torch.exp(-(lengths - torch.linspace(0.5, 2.5, 4)).square())
            angles = o3.spherical_harmonics(spheres, vectors, True, normalization="component")
            return per_molecule(model(kinds, ones, source, target, angles, scalars))

        return with_forces(energy)

    return Subject(model, call)


def visnet() -> Subject:
    """PyG's ViSNet."""
    from torch_geometric.nn.models import ViSNet

    class Near(nn.Module):
        """Its graph, which PyG makes with pyg-lib."""

        def forward(self, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            near = edges(5.0, pos, batch)
            vectors = pos[near[0]] - pos[near[1]]
            return near, vectors.norm(dim=-1), vectors.clone()  # ViSNet writes into them

    model = ViSNet(
        num_layers=2,
        hidden_channels=16,
        num_heads=2,
        lmax=2,
        num_rbf=8,
        derivative=True,
        vecnorm_type="max_min",
    )
    model.representation_model.distance = Near()

    def call(model: nn.Module) -> Outputs:
        energy, forces = model(numbers(), positions(torch.get_default_dtype()), batch())
        return {"energy": energy, "forces": forces}

    return Subject(model, call)


def cuequivariance() -> Subject:
    """A convolution of cuEquivariance, with its BatchNorm."""
    cue = importlib.import_module("cuequivariance")
    layers = importlib.import_module("cuequivariance_torch.layers")
    o3 = importlib.import_module("e3nn.o3")
    made = cue.Irreps("O3", "3x0e"), cue.Irreps("O3", "0e+1o+2e"), cue.Irreps("O3", "6x0e+4x1o+2e")
    with cue.assume(cue.O3, cue.ir_mul):
        model = layers.FullyConnectedTensorProductConv(*made, mlp_channels=[4, 8])
    model.out = nn.Linear(made[2].dim, 1)

    def call(model: nn.Module) -> Outputs:
        source, target = edges(2.5)
        kinds = torch.eye(3)[torch.arange(sum(ATOMS)) % 3]
        atoms = sum(ATOMS)

        def energy(pos: Tensor) -> Tensor:
            vectors = pos[target] - pos[source]
            lengths = vectors.norm(dim=1, keepdim=True)
            scalars = torch.exp(-(lengths - torch.linspace(0.5, 2.5, 4)).square())
            angles = o3.spherical_harmonics("0e+1o+2e", vectors, True, normalization="component")
            graph = (torch.stack((source, target)), (atoms, atoms))
            features: Any = model(kinds, angles, scalars, graph)
            return per_molecule(model.out(features))  # type: ignore[operator]

        return with_forces(energy)

    return Subject(model, call)


def uma(norm: str) -> Subject:
    """fairchem's eSCN-MD, the backbone of eSEN and UMA, with its head of energies and forces."""
    escn = importlib.import_module("fairchem.core.models.uma.escn_md")
    atomic = importlib.import_module("fairchem.core.datasets.atomic_data")
    ase = importlib.import_module("ase")
    backbone = escn.eSCNMDBackbone(
        sphere_channels=16,
        hidden_channels=16,
        edge_channels=16,
        num_layers=2,
        num_distance_basis=16,
        norm_type=norm,
        direct_forces=False,
        otf_graph=True,
        use_dataset_embedding=False,
    )
    model = nn.ModuleList([backbone, escn.MLP_EFS_Head(backbone, wrap_property=False)])

    def call(model: Any) -> Outputs:
        data = []
        for of, symbols in molecules():
            atoms = ase.Atoms(symbols.tolist(), of.numpy(), info={"charge": 0, "spin": 0})
            atoms.center(vacuum=5)
            keys = ["charge", "spin"]
            made = atomic.AtomicData.from_ase(
                atoms, r_edges=False, task_name="omol", r_data_keys=keys
            )
            data.append(made)
        given = atomic.atomicdata_list_to_batch(data)
        for key in ("pos", "cell"):
            given[key] = given[key].to(torch.get_default_dtype())
        found: Outputs = model[1](given, model[0](given))
        return {key: found[key] for key in ("energy", "forces")}

    return Subject(model, call)


def equiformer_v2(norm: str) -> Subject:
    """fairchem 1's EquiformerV2, the last one with it, with heads of energies and of forces."""
    if "torch_scatter" not in sys.modules and importlib.util.find_spec("torch_scatter") is None:
        scatter = importlib.import_module("torch_geometric.utils").scatter
        stand_in: Any = types.ModuleType("torch_scatter")  # what fairchem uses of it, by PyG
        stand_in.scatter = lambda src, index, dim=-1, dim_size=None, reduce="sum": scatter(
            src, index, dim, dim_size, reduce
        )
        stand_in.segment_coo = stand_in.segment_csr = None  # for other models
        sys.modules["torch_scatter"] = stand_in
    base = importlib.import_module("fairchem.core.models.base")
    models = importlib.import_module("fairchem.core.models.equiformer_v2.equiformer_v2")
    heads = importlib.import_module("fairchem.core.models.equiformer_v2.heads")
    data = importlib.import_module("torch_geometric.data")
    base.radius_graph = lambda x, r, batch, **_: edges(r, x, batch)  # PyG makes it with pyg-lib
    backbone = models.EquiformerV2Backbone(
        use_pbc=False,
        num_layers=2,
        sphere_channels=16,
        attn_hidden_channels=16,
        num_heads=2,
        attn_alpha_channels=8,
        attn_value_channels=8,
        ffn_hidden_channels=16,
        norm_type=norm,
        lmax_list=[2],
        mmax_list=[2],
        grid_resolution=8,
        edge_channels=16,
        num_distance_basis=16,
        alpha_drop=0.0,
        drop_path_rate=0.0,
        avg_num_nodes=9.0,
        avg_degree=8.0,
    )
    parts = [backbone, heads.EqV2ScalarHead(backbone), heads.EqV2VectorHead(backbone)]

    def call(model: Any) -> Outputs:
        torch.manual_seed(3)  # each edge has a random rotation about itself
        given = data.Batch.from_data_list(
            [
                data.Data(
                    pos=of.to(torch.get_default_dtype()), atomic_numbers=symbols, natoms=len(of)
                )
                for of, symbols in molecules()
            ]
        )
        given.pos.requires_grad_()
        emb = model[0](given)
        energy: Tensor = model[1](given, emb)["energy"]
        (gradient,) = torch.autograd.grad(energy.sum(), given.pos, create_graph=True)
        return {"energy": energy, "forces": model[2](given, emb)["forces"], "gradient": gradient}

    return Subject(nn.ModuleList(parts), call)


def torchmd(kind: str) -> Subject:
    """TorchMD-Net's equivariant transformer or TensorNet."""
    models = importlib.import_module("torchmdnet.models.model")
    dtype = torch.get_default_dtype()
    model = models.create_model(
        {
            "model": kind,
            "embedding_dimension": 32,
            "num_layers": 2,
            "num_rbf": 8,
            "rbf_type": "expnorm",
            "trainable_rbf": False,
            "activation": "silu",
            "attn_activation": "silu",
            "neighbor_embedding": True,
            "cutoff_lower": 0.0,
            "cutoff_upper": 5.0,
            "max_z": 20,
            "max_num_neighbors": 32,
            "precision": 64 if dtype == torch.float64 else 32,
            "dtype": dtype,
            "derivative": True,
            "reduce_op": "sum",
            "output_model": "Scalar",
            "prior_model": None,
            "num_heads": 4,
            "distance_influence": "both",
            "vector_cutoff": False,
            "equivariance_invariance_group": "O(3)",
            "aggr": "add",
            "atom_filter": -1,
            "box_vecs": None,
            "static_shapes": False,
            "check_errors": True,
            "remove_ref_energy": False,
        }
    )

    def call(model: nn.Module) -> Outputs:
        energy, forces = model(numbers(), positions(dtype), batch())
        return {"energy": energy, "forces": forces}

    return Subject(model, call)


def mace() -> Subject:
    """MACE with its non-linear interaction, whose radial MLPs have LayerNorm on edges."""
    numpy = importlib.import_module("numpy")
    modules = importlib.import_module("mace.modules")
    data = importlib.import_module("mace.data")
    tools = importlib.import_module("mace.tools")
    ase = importlib.import_module("ase")
    o3 = importlib.import_module("e3nn.o3")
    table = tools.AtomicNumberTable([1, 6, 8])
    interaction = modules.interaction_classes["RealAgnosticResidualNonLinearInteractionBlock"]
    model = modules.ScaleShiftMACE(
        r_max=4.0,
        num_bessel=4,
        num_polynomial_cutoff=5,
        max_ell=2,
        interaction_cls=interaction,
        interaction_cls_first=interaction,
        num_interactions=2,
        num_elements=3,
        hidden_irreps=o3.Irreps("8x0e+8x1o"),
        MLP_irreps=o3.Irreps("8x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=numpy.zeros(3),
        avg_num_neighbors=8.0,
        atomic_numbers=table.zs,
        correlation=2,
        radial_type="bessel",
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
        radial_MLP=[16, 16],
    )

    def call(model: nn.Module) -> Outputs:
        found = []
        for of, symbols in molecules():
            atoms = ase.Atoms(symbols.tolist(), of.numpy())
            config = data.config_from_atoms(atoms)
            found.append(data.AtomicData.from_config(config, z_table=table, cutoff=4.0))
        loader = tools.torch_geometric.dataloader.DataLoader(found, batch_size=len(found))
        result = model(next(iter(loader)).to_dict(), training=True)
        return {key: result[key] for key in ("energy", "forces")}

    return Subject(model, call)


MODELS: Final[Mapping[str, tuple[Callable[..., Subject], tuple[str, ...], str]]] = {
    "gate network": (gate_network, (), "e3nn"),
    "ViSNet": (visnet, (), "torch_geometric"),
    "FullyConnectedTensorProductConv": (cuequivariance, (), "cuequivariance-torch"),
    "UMA rms_norm_sh": (uma, ("rms_norm_sh",), "fairchem-core"),
    "UMA layer_norm_sh": (uma, ("layer_norm_sh",), "fairchem-core"),
    "UMA layer_norm": (uma, ("layer_norm",), "fairchem-core"),
    "EquiformerV2 rms_norm_sh": (equiformer_v2, ("rms_norm_sh",), "fairchem-core"),
    "EquiformerV2 layer_norm_sh": (equiformer_v2, ("layer_norm_sh",), "fairchem-core"),
    "EquiformerV2 layer_norm": (equiformer_v2, ("layer_norm",), "fairchem-core"),
    "TorchMD-ET": (torchmd, ("equivariant-transformer",), "torchmd-net"),
    "TensorNet": (torchmd, ("tensornet",), "torchmd-net"),
    "MACE": (mace, (), "mace-torch"),
}
"""By name: the function that builds a model, its arguments, and the package."""


def build(name: str) -> Subject:
    """Build a model, always with the same weights, which are not those of a new one.

    Raises:
        ImportError: Its package is not installed.
    """
    torch.manual_seed(0)
    make, arguments, _ = MODELS[name]
    subject = make(*arguments)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in subject.model.parameters():
            parameter.add_(0.1 * torch.rand(parameter.shape, generator=random))
    return subject

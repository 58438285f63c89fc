"""The label graph and its network against the reference's numbers and by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kit.checks import refused
from kit.paths import TESTS

from methods.capnet_graph import ResidualGCN, label_graph

GOLDEN = np.load(TESTS / "golden" / "capnet_gcn.npz")


def golden(name: str) -> torch.Tensor:
    return torch.tensor(GOLDEN[name])


def golden_adjacency() -> torch.Tensor:
    return label_graph(golden("text_features"), top_k=int(GOLDEN["top_k"]), neighbour_share=float(GOLDEN["s"]))


def golden_gcn() -> ResidualGCN:
    gcn = ResidualGCN(golden_adjacency(), dim=16)
    gcn.load_state_dict({name: golden(name) for name in ("w1", "w2", "w3")}, strict=False)
    return gcn


def unit_vectors(*degrees: float) -> torch.Tensor:
    angles = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_adjacency_matches_the_reference():
    torch.testing.assert_close(golden_adjacency(), golden("adjacency"), rtol=1e-5, atol=1e-6)


def test_residual_and_cosines_match_the_reference():
    features = golden("prompt_features")
    residual = golden_gcn()(features)
    torch.testing.assert_close(residual, golden("gcn_output"), rtol=1e-5, atol=1e-6)
    cosines = F.normalize(golden("image_features"), dim=1) @ F.normalize(features + residual, dim=1).T
    torch.testing.assert_close(cosines, golden("expected_cosine"), rtol=1e-5, atol=1e-6)


def test_adjacency_by_hand():
    # Cosines: 0-1 cos 60 = 0.5, 0-2 cos 90 = 0, 1-2 cos 30 = 0.8660254.
    features = unit_vectors(0, 60, 90) * torch.tensor([[1.0], [5.0], [0.1]])  # lengths do not matter
    half, high = 0.5 / (0.5 + 0.8660254), 0.8660254 / (0.5 + 0.8660254)
    everyone = torch.tensor([[0.7, 0.3, 0.0], [0.3 * half, 0.7, 0.3 * high], [0.0, 0.3, 0.7]])
    torch.testing.assert_close(label_graph(features, neighbour_share=0.3), everyone, rtol=1e-5, atol=1e-6)
    # One neighbour each: the diagonal is one of the two entries kept.
    nearest = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.7, 0.3], [0.0, 0.3, 0.7]])
    torch.testing.assert_close(label_graph(features, top_k=2, neighbour_share=0.3), nearest, rtol=1e-5, atol=1e-6)


def test_a_class_without_neighbours_keeps_its_own_share():
    apart = unit_vectors(0, 120, 240)  # all cosines are -0.5: no relation
    torch.testing.assert_close(label_graph(apart), 0.8 * torch.eye(3))
    same_name = unit_vectors(10, 10, 10)  # all cosines are 1: the one entry kept is the diagonal
    torch.testing.assert_close(label_graph(same_name, top_k=1), 0.8 * torch.eye(3))
    torch.testing.assert_close(label_graph(unit_vectors(10)), torch.tensor([[0.8]]))


def test_controls():
    features = unit_vectors(0, 50, 60, 90)
    assert torch.equal(label_graph(features, "identity"), torch.eye(4))
    expected = torch.full((4, 4), 0.2 / 3).fill_diagonal_(0.8)
    torch.testing.assert_close(label_graph(features, "uniform"), expected)
    assert not label_graph(features.requires_grad_()).requires_grad


@pytest.mark.parametrize("kind", ["clip", "identity", "uniform"])
@pytest.mark.parametrize("top_k", [0, -1, 4])
def test_top_k_that_does_not_fit_is_refused(kind, top_k):
    message = refused(label_graph, unit_vectors(0, 30, 60), kind, top_k)
    assert f"top_k is {top_k}" in message and "3 classes" in message


def test_residual_starts_at_zero_and_leaves_it():
    gcn = ResidualGCN(golden_adjacency(), dim=16)
    features = golden("prompt_features")
    assert gcn(features).abs().max() == 0
    assert sum(p.numel() for p in gcn.parameters()) == 8 * 16**2  # d * 2d + 2d * 2d + 2d * d, no bias
    optimizer = torch.optim.SGD(gcn.parameters(), lr=0.1)
    for _ in range(2):  # W1 and W2 get a gradient once W3 is not zero
        optimizer.zero_grad()
        (gcn(features) - 1).square().sum().backward()
        optimizer.step()
    assert all(p.grad.abs().sum() > 0 for p in gcn.parameters())


def test_the_graph_is_kept_with_the_weights():
    assert set(golden_gcn().state_dict()) == {"adjacency", "w1", "w2", "w3"}


def test_nothing_is_computed_on_the_meta_device():
    with torch.device("meta"):
        gcn = ResidualGCN(label_graph(torch.zeros(5, 8), top_k=3), dim=8)
    assert gcn(torch.zeros(5, 8, device="meta")).shape == (5, 8)

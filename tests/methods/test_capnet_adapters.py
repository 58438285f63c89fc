"""Adapters and scale-and-shift: nothing at the start, then what their formulas say."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmark.models.backbones import BACKBONES
from benchmark.models.clip import ImageTower
from methods.capnet_adapters import AdaptedBlock, Adapter, ScaleShift, adapter_width, add_adapters

LAYERS, WIDTH, SIZE = 3, 32, 32


def tower(kind: str) -> ImageTower:
    """A small random image tower of open_clip, frozen."""
    from open_clip.model import CLIP

    vision = {"layers": LAYERS, "width": WIDTH, "head_width": 16, "patch_size": 16, "image_size": SIZE}
    if kind == "resnet":
        vision = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "image_size": SIZE}
    text = {"context_length": 4, "vocab_size": 4, "width": 8, "heads": 1, "layers": 1}
    torch.manual_seed(0)
    network = CLIP(16, vision, text)
    built = BACKBONES.get("clip_rn50" if kind == "resnet" else "clip_vit_b_16").wrap(network)
    built.freeze_all()
    return built.eval()


def images(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


class HandBlock(nn.Module):
    """A block whose attention and MLP can be done by hand: 2 x and 10 x of what the norms leave."""

    def __init__(self):
        super().__init__()
        self.ln_1 = self.ls_1 = self.ls_2 = nn.Identity()
        self.ln_2 = nn.LayerNorm(2, eps=0.0)
        self.ln_2.weight.data.fill_(-1.0)  # so that the adapter's own norm is told from it

    def attention(self, x):
        return 2 * x

    def mlp(self, x):
        return 10 * x


@pytest.mark.parametrize(
    ("classes", "width"), [(1, 1), (20, 1), (24, 1), (47, 1), (48, 2), (80, 2), (95, 2), (96, 4), (1000, 32)]
)
def test_width_rule(classes, width):
    assert adapter_width(classes) == width


def test_block_by_hand():
    block = AdaptedBlock(HandBlock(), width=1)
    tokens = torch.tensor([[[1.0, 3.0], [3.0, 1.0]]])
    # x' = 3 x = (3, 9), (9, 3); ln_2(x') = (1, -1), (-1, 1); x' + 10 ln_2(x') = (13, -1), (-1, 13).
    torch.testing.assert_close(block(tokens), torch.tensor([[[13.0, -1.0], [-1.0, 13.0]]]))
    adapter = block.adapter
    adapter.norm.eps = 0.0
    adapter.down.weight.data = torch.tensor([[1.0, 2.0]])
    adapter.down.bias.data = torch.tensor([0.5])
    adapter.up.weight.data = torch.tensor([[1.0], [-1.0]])
    adapter.up.bias.data = torch.tensor([0.1, 0.2])
    adapter.scale.data.fill_(2.0)
    # The adapter's LN(x') = (-1, 1), (1, -1). Down: -1 + 2 + 0.5 = 1.5 and 1 - 2 + 0.5 = -0.5, which ReLU makes 0.
    # Up: (1.6, -1.3) and (0.1, 0.2); times 2: (3.2, -2.6) and (0.2, 0.4).
    torch.testing.assert_close(block(tokens), torch.tensor([[[16.2, -3.6], [-0.8, 13.4]]]))


def test_adapters_change_nothing_at_the_start():
    plain, adapted = tower("vit"), tower("vit")
    assert add_adapters(adapted, width=4) == LAYERS
    for call in (lambda t: t(images()), lambda t: t.feature_map(images())):
        with torch.no_grad():
            assert torch.equal(call(adapted), call(plain))
    adapted.stages.block2.adapter.up.bias.data.fill_(1.0)
    assert not torch.equal(adapted(images()), plain(images()))


def test_only_adapters_are_trained_and_counted():
    adapted = tower("vit")
    add_adapters(adapted, width=4)
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert all(".adapter." in name for name in trained)
    # A block: norm 2 D, down D r + r, up r D + D, scale 1.
    assert sum(p.numel() for p in trained.values()) == LAYERS * (2 * WIDTH + WIDTH * 4 + 4 + 4 * WIDTH + WIDTH + 1)
    adapted.train()
    adapted(images()).square().sum().backward()
    assert {name for name, p in adapted.named_parameters() if p.grad is not None} == set(trained)
    assert [name for name, _ in adapted.stages.named_children()] == ["stem", "block1", "block2", "block3"]


def test_a_tower_without_transformer_blocks_is_left_as_it_is():
    plain, same = tower("resnet"), tower("resnet")
    assert add_adapters(same, width=4) == 0
    assert same.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(same(images()), plain(images()))


def test_adapter_starts_at_zero_but_not_dead():
    torch.manual_seed(0)
    adapter = Adapter(8, 2)
    tokens = torch.randn(2, 5, 8)
    assert adapter(tokens).abs().max() == 0
    assert adapter.scale == 1 and adapter.down.weight.std() > 0
    adapter(tokens).sum().backward()
    assert adapter.up.weight.grad.abs().sum() > 0


def test_adapted_tower_works_under_autocast():
    adapted = tower("vit")
    add_adapters(adapted, width=2)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = adapted(images())
    assert F.cosine_similarity(mixed.float(), adapted(images())).min() > 0.99


def test_scale_and_shift_by_hand():
    module = ScaleShift(2)
    features = torch.tensor([[3.0, -4.0]])
    assert torch.equal(module(features), features)
    module.scale.data = torch.tensor([2.0, 0.5])
    module.shift.data = torch.tensor([1.0, -1.0])
    assert torch.equal(module(features), torch.tensor([[7.0, -3.0]]))
    assert sum(p.numel() for p in module.parameters()) == 4

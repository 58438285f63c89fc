"""Augmentation: geometry recovered from ramps, colours against torchvision, one set of parameters an image."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as tv

from benchmark.data.augment import Augmenter, _shift_hsv
from benchmark.data.sizes import training_size
from benchmark.spec import Augment

ALL = Augment(
    flip=0.5,
    crop_min_side=0.8,
    photometric=0.5,
    brightness=32 / 255,
    contrast=0.5,
    saturation=0.5,
    hue=18.0,
    channel_swap=True,
)


def noise(batch=6, size=32, seed=0):
    return torch.randint(0, 256, (batch, size, size, 3), generator=torch.Generator().manual_seed(seed)).byte()


def ramps(batch, size):
    """Red holds twice the column, green twice the row."""
    steps = (2 * torch.arange(size)).byte()
    image = torch.zeros(size, size, 3, dtype=torch.uint8)
    image[..., 0], image[..., 1] = steps[None, :], steps[:, None]
    return image.expand(batch, -1, -1, -1).contiguous()


def augmented(images, augment, size=None, seed=0):
    size = size or images.shape[1]
    return Augmenter(augment, size)(images, torch.Generator().manual_seed(seed))


def plain(images):
    return images.permute(0, 3, 1, 2).float() / 255


def photometric(**changes):
    return Augment(photometric=1.0, **changes)


@pytest.mark.parametrize(("size", "side", "cached"), [(224, 0.8, 280), (64, 1.0, 64), (224, 0.3, 747), (64, 0.875, 74)])
def test_cached_training_images_are_never_enlarged(size, side, cached):
    assert training_size(size, Augment(crop_min_side=side)) == cached
    assert cached * side >= size


def test_without_augmentation_pixels_are_divided_by_255():
    images = noise()
    assert torch.equal(augmented(images, Augment()), plain(images))


@pytest.mark.parametrize(("cached", "size"), [(20, 32), (40, 32)])
def test_without_crop_another_size_is_a_bilinear_resize(cached, size):
    images = noise(size=cached)
    expected = F.interpolate(plain(images), (size, size), mode="bilinear", align_corners=False)
    torch.testing.assert_close(augmented(images, Augment(), size), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cached", [32, 40])
def test_flip_mirrors(cached):
    images = noise(size=cached)
    found = augmented(images, Augment(flip=1.0), 32)
    torch.testing.assert_close(found, augmented(images, Augment(), 32).flip(-1), atol=1e-5, rtol=0)


def test_flip_is_drawn_for_every_image():
    images = noise(200, 16)
    flipped = (augmented(images, Augment(flip=0.25)) != plain(images)).any(dim=3).any(dim=2).any(dim=1)
    assert 0.15 < flipped.float().mean() < 0.35


@pytest.mark.parametrize("smallest", [0.8, 0.5])
@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
def test_crops_have_the_promised_sides_and_lie_inside_the_image(smallest, flip):
    batch, cached, size = 300, 100, 64
    out = augmented(ramps(batch, cached), Augment(crop_min_side=smallest, flip=flip), size) * 255 / 2
    assert torch.allclose(out[:, 0], out[:, 0, :1], atol=1e-3) and torch.allclose(
        out[:, 1], out[:, 1, :, :1], atol=1e-3
    )

    def box(line):
        """(first edge, last edge) of the crop in [0, 1], from the ramp along one axis."""
        a, b = size // 4, 3 * size // 4
        slope = (line[:, b] - line[:, a]) / (b - a)
        edges = torch.stack([line[:, a] + 0.5 + (at - a - 0.5) * slope for at in (0, size)])
        return edges / cached

    across, down = box(out[:, 0, 0]), box(out[:, 1, :, 0])
    flipped = across[0] > across[1]
    assert flipped.float().mean().item() == pytest.approx(flip, abs=0.12 if flip == 0.5 else 0)
    across = torch.where(flipped, across.flip(0), across)
    for low, high in (across, down):
        side = high - low
        assert side.min() >= smallest - 1e-4 and side.max() <= 1 + 1e-4
        assert low.min() >= -1e-4 and high.max() <= 1 + 1e-4
        # The whole range is used, and the place is uniform in what is left.
        assert side.min() < smallest + 0.05 and side.max() > 0.95
        free = side < 0.97
        assert (low / (1 - side))[free].mean().item() == pytest.approx(0.5, abs=0.08)
    assert torch.corrcoef(torch.stack([across[1] - across[0], down[1] - down[0]]))[0, 1].abs() < 0.2


@pytest.mark.parametrize(
    "augment",
    [
        Augment(crop_min_side=0.5),
        photometric(brightness=0.1),
        photometric(contrast=0.5),
        photometric(saturation=0.5),
        photometric(hue=18.0),
    ],
    ids=["crop", "brightness", "contrast", "saturation", "hue"],
)
def test_every_image_of_a_batch_has_parameters_of_its_own(augment):
    out = augmented(noise(1).expand(5, -1, -1, -1), augment)
    assert all(not torch.allclose(out[i], out[j], atol=1e-4) for i in range(5) for j in range(i))


def test_photometric_probability_zero_leaves_colours_alone():
    images = noise()
    settings = Augment(photometric=0.0, brightness=0.5, contrast=0.5, saturation=0.5, hue=90.0, channel_swap=True)
    assert torch.equal(augmented(images, settings), plain(images))


@pytest.mark.parametrize(
    "settings", [{}, {"brightness": 1e-9, "saturation": 1e-9, "hue": 1e-9}], ids=["nothing", "tiny changes"]
)
def test_photometric_changes_of_no_size_change_nothing(settings):
    images = noise()
    torch.testing.assert_close(augmented(images, photometric(**settings)), plain(images), atol=1e-5, rtol=0)


def test_photometric_changes_apply_with_their_probability():
    images = noise(1, 8).expand(400, -1, -1, -1)
    changed = (augmented(images, Augment(photometric=0.3, brightness=0.1)) != plain(images)).flatten(1).any(dim=1)
    assert 0.2 < changed.float().mean() < 0.4


def test_brightness_adds_one_value_within_the_limit():
    grey = torch.full((200, 4, 4, 3), 128, dtype=torch.uint8)
    added = augmented(grey, photometric(brightness=0.2)) - 128 / 255
    assert torch.allclose(added, added[:, :1, :1, :1])
    added = added[:, 0, 0, 0]
    assert -0.2 <= added.min() < -0.15 and 0.15 < added.max() <= 0.2


def test_contrast_multiplies_by_one_factor_within_the_limit():
    images = noise(200, 4).clamp(min=1, max=160)
    factor = augmented(images, photometric(contrast=0.5)) / plain(images)
    assert torch.allclose(factor, factor[:, :1, :1, :1], atol=1e-4)
    factor = factor[:, 0, 0, 0]
    assert 0.5 - 1e-4 <= factor.min() < 0.6 and 1.4 < factor.max() <= 1.5 + 1e-4


@pytest.mark.parametrize("turns", [-0.5, -0.2, -0.05, 0.0, 0.05, 0.3, 0.5])
def test_hue_shift_is_torchvisions(turns):
    rgb = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    rgb[0, :, :2] = 0.4  # grey has no hue
    rgb[1, :, :2] = 0.0
    found = _shift_hsv(rgb, torch.full((4, 1, 1), turns), torch.ones(4, 1, 1))
    torch.testing.assert_close(found, tv.adjust_hue(rgb, turns), atol=1e-4, rtol=0)


def test_hue_and_saturation_are_each_images_own():
    rgb = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    hue, saturation = torch.tensor([0.1, 0.0, -0.3])[:, None, None], torch.tensor([1.0, 0.5, 1.3])[:, None, None]
    together = _shift_hsv(rgb, hue, saturation)
    for i in range(3):
        alone = _shift_hsv(rgb[i : i + 1], hue[i : i + 1], saturation[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone)


def test_saturation_zero_gives_grey_of_the_same_value():
    rgb = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = _shift_hsv(rgb, torch.zeros(2, 1, 1), torch.zeros(2, 1, 1))
    torch.testing.assert_close(found, rgb.amax(dim=1, keepdim=True).expand(-1, 3, -1, -1))


def test_saturation_keeps_value_and_scales_chroma():
    rgb = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = _shift_hsv(rgb, torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.5))
    torch.testing.assert_close(found.amax(1), rgb.amax(1))
    torch.testing.assert_close(found.amax(1) - found.amin(1), 0.5 * (rgb.amax(1) - rgb.amin(1)))


def test_channel_swap_permutes_the_channels():
    images = noise(1, 8).expand(60, -1, -1, -1)
    out, source = augmented(images, photometric(channel_swap=True)), plain(images)
    orders = {
        tuple(next(k for k in range(3) if torch.equal(channel, source[0, k])) for channel in image) for image in out
    }
    assert len(orders) == 6 and all(sorted(order) == [0, 1, 2] for order in orders)


def test_values_stay_between_0_and_1():
    out = augmented(noise(40), photometric(brightness=1.0, contrast=1.0, saturation=1.0, hue=180.0))
    assert out.min() == 0 and out.max() == 1 and out.isfinite().all()


@pytest.mark.parametrize("augment", [Augment(), Augment(flip=0.5), ALL], ids=["none", "flip", "all"])
def test_output_is_float32_channels_last_and_the_input_unchanged(augment):
    images = noise(size=40)
    before = images.clone()
    for size in (40, 32):
        out = augmented(images, augment, size)
        assert out.shape == (6, 3, size, size) and out.dtype == torch.float32
        assert out.is_contiguous(memory_format=torch.channels_last)
        out.zero_()
        assert torch.equal(images, before)


def test_generator_decides_the_result():
    images = noise(size=40)
    assert torch.equal(augmented(images, ALL, 32, seed=7), augmented(images, ALL, 32, seed=7))
    assert not torch.equal(augmented(images, ALL, 32, seed=7), augmented(images, ALL, 32, seed=8))


def test_global_random_state_is_neither_used_nor_changed():
    images = noise(size=40)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = augmented(images, ALL, 32)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(augmented(images, ALL, 32), first)


# Cutout and RandAugment


def test_cutout_paints_one_square_of_one_colour_an_image():
    images = torch.full((64, 40, 40, 3), 255, dtype=torch.uint8)
    x = augmented(images, Augment(cutout=0.5))
    painted = (x != 1).any(dim=1)
    assert painted.flatten(1).any(dim=1).all()
    for image, mask in zip(x, painted, strict=True):
        rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
        # A rectangle without holes, at most half a side, less where it leaves the image.
        assert mask.sum() == len(rows) * len(columns) and max(len(rows), len(columns)) <= 20
        assert rows[-1] - rows[0] + 1 == len(rows) and columns[-1] - columns[0] + 1 == len(columns)
        colours = image[:, mask]
        assert (colours == colours[:, :1]).all()
    assert {int(mask.any(dim=0).sum()) for mask in painted} >= {20}
    assert len({tuple(image[:, mask][:, 0].tolist()) for image, mask in zip(x, painted, strict=True)}) == 64


def test_rand_augment_is_torchvisions_and_repeats():
    images = noise(8)
    once, again = (augmented(images, Augment(rand_augment=2), seed=3) for _ in range(2))
    other = augmented(images, Augment(rand_augment=2), seed=4)
    assert torch.equal(once, again) and not torch.equal(once, other)
    assert once.shape == (8, 3, 32, 32) and once.min() >= 0 and once.max() <= 1
    changed = (once != plain(images)).flatten(1).any(dim=1)
    assert int(changed.sum()) >= 4  # some of its operations leave an image as it is


def test_rand_augment_leaves_the_global_generator_as_it_was():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    augmented(noise(), Augment(rand_augment=2))
    assert torch.equal(torch.get_rng_state(), state)

"""Picture metrics against their definitions, and LPIPS against torchmetrics with the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image.lpips import _LPIPS

from ngp_method.studio import metrics
from ngp_method.studio.metrics import ImageMetrics


def picture(seed: int, height: int = 70, width: int = 90) -> Tensor:
    """A smooth random picture [height, width, 3] in [0, 1]."""
    noise = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, (height, width), mode="bicubic")[0].movedim(0, -1).clamp(0, 1)


def random_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of AlexNet's and LPIPS' shapes, scaled so that activations neither vanish nor explode."""
    rng = np.random.default_rng(seed)
    channels = [3, 64, 192, 384, 256, 256]
    arrays = {}
    for layer, (index, size) in enumerate(zip((0, 3, 6, 8, 10), (11, 5, 3, 3, 3), strict=True)):
        fan_in = channels[layer] * size * size
        shape = (channels[layer + 1], channels[layer], size, size)
        arrays[f"features.{index}.weight"] = rng.normal(0, (2 / fan_in) ** 0.5, shape).astype(np.float32)
        arrays[f"features.{index}.bias"] = rng.normal(0, 0.1, channels[layer + 1]).astype(np.float32)
        arrays[f"lin{layer}.model.1.weight"] = rng.uniform(0, 1, (1, channels[layer + 1], 1, 1)).astype(np.float32)
    return arrays


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    np.savez(tmp_path / "lpips.npz", **random_weights())
    return tmp_path / "lpips.npz"


def torchmetrics_lpips(weights: dict[str, Tensor]) -> _LPIPS:
    net = _LPIPS(pretrained=False, pnet_rand=True, use_dropout=True)
    state = net.state_dict()
    slices = {"0": 1, "3": 2, "6": 3, "8": 4, "10": 5}
    for name, value in weights.items():
        if name.startswith("features"):
            _, index, kind = name.split(".")
            name = f"net.slice{slices[index]}.{index}.{kind}"
        assert state[name].shape == value.shape
        state[name] = value
        if name.startswith("lin"):  # registered a second time in a list
            state[f"lins.{name[3]}.model.1.weight"] = value
    net.load_state_dict(state)
    return net.eval()


def check_lpips_against_torchmetrics(path: Path) -> None:
    weights = metrics.load_lpips_weights(path)
    net = torchmetrics_lpips(weights)
    for seed, size in ((0, (70, 90)), (1, (31, 64)), (2, (128, 128))):
        first, second = picture(seed, *size), picture(seed + 10, *size)
        ours = ImageMetrics(path)(first, second)["lpips"]
        batch = [x.movedim(-1, 0)[None] for x in (first, second)]
        theirs = float(net(*batch, normalize=True))
        assert theirs > 0.01
        assert ours == pytest.approx(theirs, rel=1e-5)  # two orders of the same float32 sums


def test_lpips_is_torchmetrics_with_the_same_weights(weights_file: Path) -> None:
    check_lpips_against_torchmetrics(weights_file)


def test_lpips_with_the_published_weights(find_data: Callable[[str], Path]) -> None:
    path = find_data("lpips/alexnet_lpips_torch_layout.npz")
    check_lpips_against_torchmetrics(path)
    import torchmetrics.functional.image.lpips as shipped

    linear = torch.load(Path(shipped.__file__).parent / "lpips_models" / "alex.pth", "cpu", weights_only=True)
    ours = metrics.load_lpips_weights(path)
    for name, value in linear.items():
        assert torch.equal(value.reshape(-1), ours[name].reshape(-1)), name


def test_lpips_is_zero_for_the_same_and_symmetric(weights_file: Path) -> None:
    measure = ImageMetrics(weights_file)
    first, second = picture(3), picture(4)
    assert measure(first, first)["lpips"] == 0.0
    assert measure(first, second)["lpips"] == pytest.approx(measure(second, first)["lpips"], rel=1e-6)
    near = (first + 0.02 * (second - first)).clamp(0, 1)
    assert measure(first, near)["lpips"] < measure(first, second)["lpips"]


def test_psnr_of_a_known_error() -> None:
    grey = torch.full((20, 20, 3), 0.5)
    assert ImageMetrics()(grey, grey + 0.1)["psnr"] == pytest.approx(20.0, abs=1e-4)
    assert ImageMetrics()(grey, grey)["psnr"] == math.inf
    assert ImageMetrics()(grey + 9.0, torch.ones(20, 20, 3))["psnr"] == math.inf  # clipped


def test_ssim_is_its_definition_on_constant_pictures() -> None:
    # no variance anywhere: what is left of the formula is the luminance term, (2ab + c1) / (a^2 + b^2 + c1)
    a, b, c1 = 0.3, 0.6, 0.01**2
    values = ImageMetrics()(torch.full((32, 32, 3), a), torch.full((32, 32, 3), b))
    # the variances, differences of float32 means, are 1e-7 instead of 0 beside a constant of 9e-4
    assert values["ssim"] == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), rel=1e-3)
    first, second = picture(5), picture(6)
    assert ImageMetrics()(first, first)["ssim"] == pytest.approx(1.0, abs=1e-6)
    assert ImageMetrics()(first, second)["ssim"] < 0.99


def test_lpips_is_left_out_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv(metrics.LPIPS_VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    measure = ImageMetrics()
    for _ in range(2):
        assert set(measure(picture(0), picture(1))) == {"psnr", "ssim"}
    said = capsys.readouterr().out
    assert said.count("LPIPS is left out") == 1
    assert len(said.strip().splitlines()) == 1


def test_weights_that_cannot_be_used_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv(metrics.LPIPS_VARIABLE, str(tmp_path / "gone.npz"))
    assert "lpips" not in ImageMetrics()(picture(0), picture(1))
    arrays = random_weights()
    del arrays["features.6.bias"]
    np.savez(tmp_path / "short.npz", **arrays)
    (tmp_path / "text.npz").write_text("not an archive")
    for name in ("short.npz", "text.npz"):
        assert "lpips" not in ImageMetrics(tmp_path / name)(picture(0), picture(1))
    said = "".join(capsys.readouterr().out.splitlines())
    assert "gone.npz is no file" in said
    assert "short.npz has no array features.6.bias" in said
    assert said.count("LPIPS is left out") == 3


def test_weights_come_from_the_variable(weights_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(metrics.LPIPS_VARIABLE, str(weights_file))
    assert ImageMetrics()(picture(0), picture(1)) == ImageMetrics(weights_file)(picture(0), picture(1))


def test_weights_come_from_torchs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = {name: torch.from_numpy(value) for name, value in random_weights().items() if name.startswith("features")}
    (tmp_path / "checkpoints").mkdir()
    torch.save(trunk, tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth")
    monkeypatch.delenv(metrics.LPIPS_VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    weights = metrics.load_lpips_weights()
    assert torch.equal(weights["features.8.weight"], trunk["features.8.weight"])
    assert weights["lin4.model.1.weight"].shape == (1, 256, 1, 1)
    assert ImageMetrics()(picture(0), picture(1))["lpips"] > 0


def test_small_pictures_leave_out_what_has_no_window(weights_file: Path) -> None:
    measure = ImageMetrics(weights_file)
    assert set(measure(picture(0, 8, 40), picture(1, 8, 40))) == {"psnr"}
    assert set(measure(picture(0, 30, 40), picture(1, 30, 40))) == {"psnr", "ssim"}
    assert set(measure(picture(0, 31, 40), picture(1, 31, 40))) == {"psnr", "ssim", "lpips"}


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"must both be \[H, W, 3\]"):
        ImageMetrics()(torch.zeros(4, 4, 3), torch.zeros(4, 5, 3))


def test_nothing_enters_a_models_state(weights_file: Path) -> None:
    module = torch.nn.Linear(2, 2)
    module.metrics = ImageMetrics(weights_file)  # type: ignore[assignment]
    module.metrics(picture(0), picture(1))
    assert set(module.state_dict()) == {"weight", "bias"}

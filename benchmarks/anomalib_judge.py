"""PatchCore and PaDiM of anomalib itself, on given weights: run by patch_baselines.py --anomalib.

    PYTHON benchmarks/anomalib_judge.py patchcore|padim FOLDER SEED

PYTHON is one of an environment that has anomalib, which this project does not need. FOLDER holds weights.npz
(Keras's MobileNetV2, <layer>/<index>), good.npy and test.npy (uint8 (n, side, side, 3)); it receives
found.npz: scores (n,), maps (n, side, side), network_ms, rest_ms, megabytes, version.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import anomalib
import numpy as np
import torch
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from torch import nn

EPSILON = 1e-3  # of Keras's BatchNorms in this network
BLOCKS = 14  # of MobileNetV2, up to the expansion of block 13
STRIDED = (1, 3, 6, 13)  # the blocks whose depthwise convolution halves the resolution
LAYERS = {"padim": ("3", "6", "13"), "patchcore": ("6", "13")}


class Convolution(nn.Module):
    """A convolution, its BatchNorm and its ReLU6, named and padded as Keras has them."""

    def __init__(
        self, weights: Mapping[str, list[np.ndarray]], name: str, norm: str, stride: int, *, relu: bool
    ) -> None:
        super().__init__()
        kernel = torch.from_numpy(weights[name][0])
        depthwise = name.endswith("depthwise")
        kernel = kernel.permute(2, 3, 0, 1) if depthwise else kernel.permute(3, 2, 0, 1)
        channels, inputs, side, _ = kernel.shape
        groups = channels if depthwise else 1
        self.convolution = nn.Conv2d(
            inputs * groups,
            channels,
            side,
            stride,
            0 if stride == 2 else side // 2,
            groups=groups,
            bias=False,
        )
        self.convolution.weight.data = kernel.contiguous()
        self.norm = nn.BatchNorm2d(channels, eps=EPSILON)
        state = ("weight", "bias", "running_mean", "running_var")
        self.norm.load_state_dict(
            {key: torch.from_numpy(value) for key, value in zip(state, weights[norm], strict=True)},
            strict=False,
        )
        self.padding = nn.ZeroPad2d((0, 1, 0, 1)) if stride == 2 else nn.Identity()
        self.relu = nn.ReLU6() if relu else nn.Identity()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w)."""
        return self.relu(self.norm(self.convolution(self.padding(pixels))))


class Block(nn.Module):
    """An inverted residual; `expand` is what the published methods look at."""

    def __init__(self, weights: Mapping[str, list[np.ndarray]], index: int) -> None:
        super().__init__()
        name = f"block_{index}"
        parts = ("expand", "depthwise", "project")
        self.expand, self.depthwise, self.project = (
            Convolution(
                weights,
                f"{name}_{part}",
                f"{name}_{part}_BN",
                2 if part == "depthwise" and index in STRIDED else 1,
                relu=part != "project",
            )
            for part in parts
        )
        shape = weights[f"{name}_expand"][0].shape[2], weights[f"{name}_project"][0].shape[3]
        self.residual = index not in STRIDED and shape[0] == shape[1]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w)."""
        found = self.project(self.depthwise(self.expand(pixels)))
        return pixels + found if self.residual else found


def network(weights: Mapping[str, list[np.ndarray]]) -> nn.Module:
    """Keras's MobileNetV2 up to block 13, as a module of torch."""
    first = "expanded_conv"
    parts = {
        "stem": Convolution(weights, "Conv1", "bn_Conv1", 2, relu=True),
        "depthwise": Convolution(weights, f"{first}_depthwise", f"{first}_depthwise_BN", 1, relu=True),
        "project": Convolution(weights, f"{first}_project", f"{first}_project_BN", 1, relu=False),
        **{f"block_{index}": Block(weights, index) for index in range(1, BLOCKS)},
    }
    model = nn.Sequential()
    for name, part in parts.items():
        model.add_module(name, part)
    return model.eval()


def read_weights(path: Path) -> dict[str, list[np.ndarray]]:
    """The arrays of each layer, in Keras's order."""
    found: dict[str, list[np.ndarray]] = {}
    with np.load(path) as stored:
        for key in sorted(stored.files, key=lambda key: int(key.rpartition("/")[2])):
            found.setdefault(key.rpartition("/")[0], []).append(stored[key])
    return found


def scaled(image: np.ndarray) -> torch.Tensor:
    """(1, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(image.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[np.newaxis].contiguous()


def main() -> None:
    """The command."""
    method, folder, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    torch.manual_seed(seed)
    torch.set_grad_enabled(False)
    backbone = network(read_weights(folder / "weights.npz"))
    layers = [f"block_{index}.expand" for index in LAYERS[method]]
    if method == "padim":
        model = PadimModel(backbone=backbone, layers=layers, pre_trained=False, n_features=100)
    else:
        model = PatchcoreModel(backbone=backbone, layers=layers, pre_trained=False)
    model.train()
    model.feature_extractor.eval()
    found = [model(scaled(image)) for image in np.load(folder / "good.npy")]
    if method == "padim":
        model.fit()
        kept = (model.gaussian.mean, model.gaussian.inv_covariance)
    else:
        if not len(model.embedding_store):  # older releases leave it to the caller to keep them
            model.embedding_store.extend(found)
        model.subsample_embedding(0.1)
        kept = (model.memory_bank,)
    model.eval()
    scores, maps, network_ms, rest_ms = [], [], [], []
    for image in np.load(folder / "test.npy"):
        start = time.perf_counter()
        model.feature_extractor(scaled(image))
        seen = time.perf_counter()
        judged = model(scaled(image))
        network_ms.append((seen - start) * 1e3)
        rest_ms.append((time.perf_counter() - seen) * 1e3 - network_ms[-1])
        scores.append(float(judged.pred_score.reshape(-1)[0]))
        maps.append(judged.anomaly_map.reshape(image.shape[:2]).numpy())
    np.savez(
        folder / "found.npz",
        scores=np.array(scores),
        maps=np.array(maps, np.float32),
        network_ms=np.median(network_ms),
        rest_ms=np.median(rest_ms),
        megabytes=sum(one.numel() * one.element_size() for one in kept) / 2**20,
        version=np.array(anomalib.__version__),
    )


if __name__ == "__main__":
    main()

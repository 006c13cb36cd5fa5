"""The settings of trainer.fit; default.toml names and explains every one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from device.image.geometry import ResizeMode
from device.settings import Limits, Matching, OneOf, Within, load_tables

DEFAULT = Path(__file__).with_name("default.toml")
WHEN = ("auto", "always", "never")
ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)  # the widths that MobileNetV2 is published with


@dataclass(frozen=True, slots=True)
class InputConfig:
    """How large the model's input is, and how an image is brought to it."""

    max_size: int
    scales: list[float]
    min_defect_px: float
    tile_size: int
    tile_overlap: float
    resize: ResizeMode
    max_macs: float
    cache_bytes: int


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """What copies of an image are made to train a network on."""

    flip_horizontal: str
    flip_vertical: str
    quarter_turns: str
    rotation_deg: float
    zoom: float
    shift: float
    brightness: float
    contrast: float
    fill: str


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """Which images are trained on how often, and what they weigh."""

    defective_share: float
    class_weights: str


@dataclass(frozen=True, slots=True)
class DataConfig:
    """How much of the data is used."""

    limit: int


@dataclass(frozen=True, slots=True)
class SplitConfig:
    """Who is held out, and who judges whom."""

    test_share: float
    folds: int


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """What the probe tries."""

    max_megapixels: float
    strengths: list[float]
    pooling_shares: list[float]
    finalists: int
    mask_weights: list[float]


@dataclass(frozen=True, slots=True)
class ScratchConfig:
    """How a network is trained from random weights."""

    alpha: float
    epochs: int
    batch_size: int
    learning_rate: float
    mask_weight: float


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Whether and how a decoder is taught in place of the probe's linear head."""

    when: str
    folds: int
    steps: int
    batch_size: int
    learning_rate: float
    image_weight: float
    varied: float
    made: float


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """Whether and how the network is trained on from the probe's result."""

    when: str
    epochs: int
    head_epochs: int
    from_block: int
    learning_rate: float
    head_learning_rate: float
    warm_up_share: float
    batch_size: int
    gamma: float
    alpha: float
    mask_weight: float
    monitor: str
    patience: int


@dataclass(frozen=True, slots=True)
class DenseConfig:
    """How --head dense is trained."""

    alpha: float
    epochs: int
    learning_rate: float
    dropout: float
    patience: int


@dataclass(frozen=True, slots=True)
class QatConfig:
    """How --qat trains on."""

    epochs: int
    learning_rate: float


@dataclass(frozen=True, slots=True)
class HardwareConfig:
    """What the training may use of what is there."""

    devices: int
    precision: str


@dataclass(frozen=True, slots=True)
class ThresholdConfig:
    """Where NG and MARGINAL begin, and what must be known of it."""

    choose: str
    precision: float
    false_reject_rate: float
    cost_of_miss: float
    cost_of_false_reject: float
    defect_rate: float
    confidence: float
    marginal_share: float


@dataclass(frozen=True, slots=True)
class FamiliarConfig:
    """Which pictures the model may judge."""

    rate: float


@dataclass(frozen=True, slots=True)
class QuantizationConfig:
    """What sets the ranges of the int8 numbers."""

    images: int


@dataclass(frozen=True, slots=True)
class BundleConfig:
    """What the bundle is called, and what travels with it."""

    name: str
    golden: int


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """How much the report shows."""

    images: int
    thumbnail_px: int
    map_images: int
    gradient: bool
    max_bytes: int


@dataclass(frozen=True, slots=True)
class GoodOnlyConfig:
    """How a memory of good parts is made, with --mode good-only."""

    input_px: int
    images: int
    made_defects: int
    folds: int
    max_bytes: int
    search_macs_per_px: float
    pooling_shares: list[float]
    sigmas: list[float]
    image_weights: list[float]


@dataclass(frozen=True, slots=True)
class Config:
    """All of them, one field for each section of the file."""

    data: DataConfig
    input: InputConfig
    augment: AugmentConfig
    sampling: SamplingConfig
    split: SplitConfig
    probe: ProbeConfig
    scratch: ScratchConfig
    decoder: DecoderConfig
    finetune: FinetuneConfig
    dense: DenseConfig
    qat: QatConfig
    hardware: HardwareConfig
    threshold: ThresholdConfig
    familiar: FamiliarConfig
    quantization: QuantizationConfig
    bundle: BundleConfig
    report: ReportConfig
    good_only: GoodOnlyConfig


LIMITS: Limits = {
    ("input", "max_size"): Within(32, 4096),
    ("input", "scales"): Within(0.05, 1.0),
    ("input", "min_defect_px"): Within(0.0, 256.0),
    ("input", "tile_size"): Within(32, 4096, or_zero=True),
    ("input", "tile_overlap"): Within(0.0, 0.5),
    ("input", "resize"): OneOf(get_args(ResizeMode)),
    ("input", "max_macs"): Within(0.0, 1e13),
    ("data", "limit"): Within(0, 10**9),
    ("input", "cache_bytes"): Within(0, 10**13),
    ("augment", "flip_horizontal"): OneOf(WHEN),
    ("augment", "flip_vertical"): OneOf(WHEN),
    ("augment", "quarter_turns"): OneOf(WHEN),
    ("augment", "rotation_deg"): Within(0.0, 180.0),
    ("augment", "zoom"): Within(0.0, 1.0),
    ("augment", "shift"): Within(0.0, 0.5),
    ("augment", "brightness"): Within(0.0, 0.5),
    ("augment", "contrast"): Within(0.0, 0.9),
    ("augment", "fill"): OneOf(("zoom", "edge", "level")),
    ("sampling", "defective_share"): Within(0.01, 0.99, or_zero=True),
    ("sampling", "class_weights"): OneOf(("none", "balanced")),
    ("split", "test_share"): Within(0.0, 0.9),
    ("split", "folds"): Within(2, 20),
    ("probe", "max_megapixels"): Within(1.0, 1e6),
    ("probe", "strengths"): Within(1e-6, 1e6),
    ("probe", "pooling_shares"): Within(1e-4, 1.0),
    ("probe", "finalists"): Within(1, 50),
    ("probe", "mask_weights"): Within(0.0, 100.0),
    ("scratch", "alpha"): OneOf(ALPHAS),
    ("scratch", "epochs"): Within(1, 10000),
    ("scratch", "batch_size"): Within(1, 1024),
    ("scratch", "learning_rate"): Within(1e-7, 1.0),
    ("scratch", "mask_weight"): Within(0.0, 100.0),
    ("decoder", "when"): OneOf(("auto", "never")),
    ("decoder", "folds"): Within(2, 20),
    ("decoder", "steps"): Within(1, 100_000),
    ("decoder", "batch_size"): Within(1, 64),
    ("decoder", "learning_rate"): Within(1e-7, 1.0),
    ("decoder", "image_weight"): Within(0.0, 100.0),
    ("decoder", "varied"): Within(0.0, 1.0),
    ("decoder", "made"): Within(0.0, 1.0),
    ("finetune", "when"): OneOf(("gpu", "always", "never")),
    ("finetune", "epochs"): Within(1, 10000),
    ("finetune", "head_epochs"): Within(0, 10000),
    ("finetune", "from_block"): Within(0, 18),
    ("finetune", "learning_rate"): Within(1e-9, 1.0),
    ("finetune", "head_learning_rate"): Within(1e-9, 1.0),
    ("finetune", "warm_up_share"): Within(0.0, 1.0),
    ("finetune", "batch_size"): Within(1, 4096),
    ("finetune", "gamma"): Within(0.0, 10.0),
    ("finetune", "alpha"): Within(0.0, 1.0),
    ("finetune", "mask_weight"): Within(0.0, 100.0),
    ("finetune", "monitor"): OneOf(("ap", "f1")),
    ("finetune", "patience"): Within(1, 10000),
    ("dense", "alpha"): OneOf(ALPHAS),
    ("dense", "epochs"): Within(1, 10000),
    ("dense", "learning_rate"): Within(1e-9, 1.0),
    ("dense", "dropout"): Within(0.0, 0.9),
    ("dense", "patience"): Within(1, 10000),
    ("qat", "epochs"): Within(1, 10000),
    ("qat", "learning_rate"): Within(1e-9, 1.0),
    ("hardware", "devices"): Within(0, 64),
    ("hardware", "precision"): OneOf(("auto", "float32", "mixed_bfloat16", "mixed_float16")),
    ("threshold", "choose"): OneOf(("f1", "precision", "false_reject_rate", "cost")),
    ("threshold", "precision"): Within(0.01, 0.999999),
    ("threshold", "false_reject_rate"): Within(0.000001, 0.99),
    ("threshold", "cost_of_miss"): Within(0.0, 1e12),
    ("threshold", "cost_of_false_reject"): Within(0.0, 1e12),
    ("threshold", "defect_rate"): Within(0.0, 0.999),
    ("threshold", "confidence"): Within(0.5, 0.9999),
    ("threshold", "marginal_share"): Within(0.0, 1.0),
    ("familiar", "rate"): Within(0.0001, 0.5, or_zero=True),
    ("good_only", "input_px"): Within(32, 4096),
    ("good_only", "images"): Within(10, 10000),
    ("good_only", "made_defects"): Within(4, 10000),
    ("good_only", "folds"): Within(2, 20),
    ("good_only", "max_bytes"): Within(100_000, 1_000_000_000),
    ("good_only", "search_macs_per_px"): Within(1.0, 1e6),
    ("good_only", "pooling_shares"): Within(1e-4, 1.0),
    ("good_only", "sigmas"): Within(0.0, 8.0),
    ("good_only", "image_weights"): Within(0.0, 100.0),
    ("quantization", "images"): Within(2, 10000),
    ("bundle", "name"): Matching(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})?", "letters, digits, '.', '_' or '-'"),
    ("bundle", "golden"): Within(1, 100),
    ("report", "images"): Within(0, 100),
    ("report", "thumbnail_px"): Within(64, 1024),
    ("report", "map_images"): Within(0, 100_000),
    ("report", "gradient"): OneOf((True, False)),
    ("report", "max_bytes"): Within(0, 50_000_000),
}


def load(path: Path | None) -> Config:
    """The settings of a TOML file over the defaults. Raises ConfigError with every problem of the file."""
    tables: dict[str, Any] = load_tables(DEFAULT, path or DEFAULT, LIMITS, _empty_lists)
    return Config(
        data=DataConfig(**tables["data"]),
        input=InputConfig(**tables["input"]),
        augment=AugmentConfig(**tables["augment"]),
        sampling=SamplingConfig(**tables["sampling"]),
        split=SplitConfig(**tables["split"]),
        probe=ProbeConfig(**tables["probe"]),
        scratch=ScratchConfig(**tables["scratch"]),
        decoder=DecoderConfig(**tables["decoder"]),
        finetune=FinetuneConfig(**tables["finetune"]),
        dense=DenseConfig(**tables["dense"]),
        qat=QatConfig(**tables["qat"]),
        hardware=HardwareConfig(**tables["hardware"]),
        threshold=ThresholdConfig(**tables["threshold"]),
        familiar=FamiliarConfig(**tables["familiar"]),
        quantization=QuantizationConfig(**tables["quantization"]),
        bundle=BundleConfig(**tables["bundle"]),
        report=ReportConfig(**tables["report"]),
        good_only=GoodOnlyConfig(**tables["good_only"]),
    )


def _empty_lists(tables: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"[{section}] {key}: must hold one number or more, got []"
        for section, table in tables.items()
        for key, value in table.items()
        if value == []
    ]

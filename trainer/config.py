"""The settings of trainer.fit; default.toml names and explains every one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from device.image.geometry import ResizeMode
from device.settings import Matching, OneOf, Within, key, limits, load_tables, section

DEFAULT = Path(__file__).with_name("default.toml")
WHEN = ("auto", "always", "never")
ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)  # the widths that MobileNetV2 is published with


@dataclass(frozen=True, slots=True)
class InputConfig:
    """How large the model's input is, and how an image is brought to it."""

    max_size: int = key(1024, Within(32, 4096))
    scales: list[float] = key([1.0, 0.5], Within(0.05, 1.0))
    min_defect_px: float = key(6.0, Within(0.0, 256.0))
    tile_size: int = key(512, Within(32, 4096, or_zero=True))
    tile_overlap: float = key(0.2, Within(0.0, 0.5))
    resize: ResizeMode = key("stretch", OneOf(get_args(ResizeMode)))
    max_macs: float = key(0.0, Within(0.0, 1e13))
    cache_bytes: int = key(4_000_000_000, Within(0, 10**13))


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """What copies of an image are made to train a network on."""

    flip_horizontal: str = key("auto", OneOf(WHEN))
    flip_vertical: str = key("auto", OneOf(WHEN))
    quarter_turns: str = key("auto", OneOf(WHEN))
    rotation_deg: float = key(0.0, Within(0.0, 180.0))
    zoom: float = key(0.0, Within(0.0, 1.0))
    shift: float = key(0.0, Within(0.0, 0.5))
    brightness: float = key(0.05, Within(0.0, 0.5))
    contrast: float = key(0.1, Within(0.0, 0.9))
    fill: str = key("zoom", OneOf(("zoom", "edge", "level")))


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """Which images are trained on how often, and what they weigh."""

    defective_share: float = key(0.5, Within(0.01, 0.99, or_zero=True))
    class_weights: str = key("none", OneOf(("none", "balanced")))


@dataclass(frozen=True, slots=True)
class DataConfig:
    """How much of the data is used."""

    limit: int = key(0, Within(0, 10**9))


@dataclass(frozen=True, slots=True)
class SplitConfig:
    """Who is held out, and who judges whom."""

    test_share: float = key(0.3, Within(0.0, 0.9))
    folds: int = key(5, Within(2, 20))


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """What the probe tries."""

    max_megapixels: float = key(600.0, Within(1.0, 1e6))
    strengths: list[float] = key([0.1, 1.0], Within(1e-6, 1e6))
    pooling_shares: list[float] = key([1.0, 0.1, 0.03, 0.01], Within(1e-4, 1.0))
    finalists: int = key(2, Within(1, 50))
    mask_weights: list[float] = key([0.0, 0.1, 1.0], Within(0.0, 100.0))


@dataclass(frozen=True, slots=True)
class ScratchConfig:
    """How a network is trained from random weights."""

    alpha: float = key(0.35, OneOf(ALPHAS))
    epochs: int = key(20, Within(1, 10000))
    batch_size: int = key(8, Within(1, 1024))
    learning_rate: float = key(0.004, Within(1e-7, 1.0))
    mask_weight: float = key(1.0, Within(0.0, 100.0))


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Whether and how a decoder is taught in place of the probe's linear head."""

    when: str = key("auto", OneOf(("auto", "never")))
    folds: int = key(3, Within(2, 20))
    steps: int = key(600, Within(1, 100_000))
    batch_size: int = key(2, Within(1, 64))
    learning_rate: float = key(0.003, Within(1e-7, 1.0))
    image_weight: float = key(0.3, Within(0.0, 100.0))
    varied: float = key(0.6, Within(0.0, 1.0))
    made: float = key(0.0, Within(0.0, 1.0))


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """Whether and how the network is trained on from the probe's result."""

    when: str = key("gpu", OneOf(("gpu", "always", "never")))
    epochs: int = key(8, Within(1, 10000))
    head_epochs: int = key(1, Within(0, 10000))
    from_block: int = key(6, Within(0, 18))
    learning_rate: float = key(1e-05, Within(1e-9, 1.0))
    head_learning_rate: float = key(0.0001, Within(1e-9, 1.0))
    warm_up_share: float = key(0.1, Within(0.0, 1.0))
    batch_size: int = key(8, Within(1, 4096))
    gamma: float = key(2.0, Within(0.0, 10.0))
    alpha: float = key(0.5, Within(0.0, 1.0))
    mask_weight: float = key(0.1, Within(0.0, 100.0))
    monitor: str = key("ap", OneOf(("ap", "f1")))
    patience: int = key(3, Within(1, 10000))


@dataclass(frozen=True, slots=True)
class DenseConfig:
    """How --head dense is trained."""

    alpha: float = key(1.0, OneOf(ALPHAS))
    epochs: int = key(40, Within(1, 10000))
    learning_rate: float = key(0.001, Within(1e-9, 1.0))
    dropout: float = key(0.3, Within(0.0, 0.9))
    patience: int = key(10, Within(1, 10000))


@dataclass(frozen=True, slots=True)
class QatConfig:
    """How --qat trains on."""

    epochs: int = key(3, Within(1, 10000))
    learning_rate: float = key(1e-05, Within(1e-9, 1.0))


@dataclass(frozen=True, slots=True)
class HardwareConfig:
    """What the training may use of what is there."""

    devices: int = key(0, Within(0, 64))
    precision: str = key("auto", OneOf(("auto", "float32", "mixed_bfloat16", "mixed_float16")))


@dataclass(frozen=True, slots=True)
class ThresholdConfig:
    """Where NG and MARGINAL begin, and what must be known of it."""

    choose: str = key("f1", OneOf(("f1", "precision", "false_reject_rate", "cost")))
    precision: float = key(0.99, Within(0.01, 0.999999))
    false_reject_rate: float = key(0.01, Within(0.000001, 0.99))
    cost_of_miss: float = key(100.0, Within(0.0, 1e12))
    cost_of_false_reject: float = key(1.0, Within(0.0, 1e12))
    defect_rate: float = key(0.0, Within(0.0, 0.999))
    confidence: float = key(0.95, Within(0.5, 0.9999))
    marginal_share: float = key(0.02, Within(0.0, 1.0))


@dataclass(frozen=True, slots=True)
class FamiliarConfig:
    """Which pictures the model may judge."""

    rate: float = key(0.01, Within(0.0001, 0.5, or_zero=True))


@dataclass(frozen=True, slots=True)
class QuantizationConfig:
    """What sets the ranges of the int8 numbers."""

    images: int = key(40, Within(2, 10000))


@dataclass(frozen=True, slots=True)
class BundleConfig:
    """What the bundle is called, and what travels with it."""

    name: str = key("", Matching(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})?", "letters, digits, '.', '_' or '-'"))
    golden: int = key(3, Within(1, 100))


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """How much the report shows."""

    images: int = key(6, Within(0, 100))
    thumbnail_px: int = key(320, Within(64, 1024))
    map_images: int = key(16, Within(0, 100_000))
    gradient: bool = key(True, OneOf((True, False)))
    max_bytes: int = key(1_500_000, Within(0, 50_000_000))


@dataclass(frozen=True, slots=True)
class GoodOnlyConfig:
    """How a memory of good parts is made, with --mode good-only."""

    input_px: int = key(512, Within(32, 4096))
    images: int = key(500, Within(10, 10000))
    made_defects: int = key(100, Within(4, 10000))
    folds: int = key(5, Within(2, 20))
    max_bytes: int = key(8_388_608, Within(100_000, 1_000_000_000))
    search_macs_per_px: float = key(700.0, Within(1.0, 1e6))
    pooling_shares: list[float] = key([0.1, 0.03, 0.01, 0.003], Within(1e-4, 1.0))
    sigmas: list[float] = key([0.0, 1.0], Within(0.0, 8.0))
    image_weights: list[float] = key([0.0, 1.0], Within(0.0, 100.0))


@dataclass(frozen=True, slots=True)
class TrainerConfig:
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


SECTIONS: dict[str, type] = get_type_hints(TrainerConfig)
LIMITS = limits({name: (kind,) for name, kind in SECTIONS.items()})


def load(path: Path | None) -> TrainerConfig:
    """The settings of a TOML file over the defaults. Raises ConfigError with every problem of the file."""
    tables = load_tables(DEFAULT, path or DEFAULT, LIMITS, _empty_lists)
    return TrainerConfig(**{name: section(kind, tables[name]) for name, kind in SECTIONS.items()})


def _empty_lists(tables: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"[{section}] {key}: must hold one number or more, got []"
        for section, table in tables.items()
        for key, value in table.items()
        if value == []
    ]

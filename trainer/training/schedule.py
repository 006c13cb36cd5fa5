"""The learning rate: up from nothing, then down a cosine to nothing."""

from __future__ import annotations

import math

import keras


class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Linear warm-up to `peak` over `warm_up` steps, then a cosine to 0 at `steps`.

    Loshchilov and Hutter, ICLR 2017. The first step's rate is peak / warm_up, not 0: every step teaches.
    """

    def __init__(self, peak: float, warm_up: int, steps: int) -> None:
        if not 0 <= warm_up < steps:
            raise ValueError(f"warm_up must be 0 <= warm_up < steps, got {warm_up} of {steps} steps")
        self.peak, self.warm_up, self.steps = peak, warm_up, steps

    def __call__(self, step: keras.KerasTensor | int) -> keras.KerasTensor:
        """The rate of step 0, 1, 2..."""
        at = keras.ops.cast(step, "float32")
        rising = (at + 1.0) / max(self.warm_up, 1)
        share = keras.ops.clip((at - self.warm_up) / (self.steps - self.warm_up), 0.0, 1.0)
        falling = 0.5 * (1.0 + keras.ops.cos(math.pi * share))
        return self.peak * keras.ops.where(at < self.warm_up, rising, falling)

    def get_config(self) -> dict[str, float]:
        return {"peak": self.peak, "warm_up": self.warm_up, "steps": self.steps}


def warm_up_steps(steps: int, share: float) -> int:
    """A share of all steps, and at least one of them left for the cosine."""
    return min(math.ceil(share * steps), steps - 1)

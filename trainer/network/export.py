"""From a Keras model to an all-int8 .tflite with uint8 pixels as its input, and that file run on images."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from device.bundle.bundle import Pooling, Quantization, ScoreCalibration
from device.bundle.memory import Memory, Scale, TurnedFeatures
from device.errors import InterpreterError
from device.inspection.detector import AS_IT_IS, Prediction, predict
from device.inspection.interpreter import default_threads
from device.inspection.preprocess import ModelInput
from trainer.network.network import scaled

log = logging.getLogger(__name__)

MODEL, EXAMPLES, CONVERTED = "model.keras", "examples.npy", "model.tflite"  # what two processes exchange
INTEGERS = {np.dtype(name) for name in ("int8", "uint8", "int32")}  # int32: biases and shapes


def to_int8(model: keras.Model, examples: Sequence[NDArray[np.uint8]]) -> bytes:
    """Quantize after training: int8 activations and per-channel int8 weights (Jacob et al., CVPR 2018).

    `model`: (n, h, w, 3) in [-1, 1]. `examples`: uint8 (1, h, w, 3), the images that set the ranges.
    The file takes uint8 pixels as they are. Where Keras does not run on TensorFlow, a process of its own
    converts. Raises InterpreterError where a float operation is left, or that process fails.
    """
    return _anywhere(model, examples)


def to_float(model: keras.Model) -> bytes:
    """A model's file without quantization: on a CPU it says several times as fast what Keras says."""
    return _anywhere(model, ())


def _anywhere(model: keras.Model, examples: Sequence[NDArray[np.uint8]]) -> bytes:
    if keras.backend.backend() != "tensorflow":
        return _in_a_process(model, examples)
    return _converted(model, examples)


def _in_a_process(model: keras.Model, examples: Sequence[NDArray[np.uint8]]) -> bytes:
    """The model and its examples go by file; so does what comes back."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save(folder / MODEL)
        np.save(folder / EXAMPLES, np.array(examples))
        done = subprocess.run(
            (sys.executable, "-m", "trainer.network.export", name),
            cwd=Path(__file__).parents[2],
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stderr.strip() or "nothing").splitlines()[-1][:300]
            raise InterpreterError(f"conversion by TensorFlow failed ({done.returncode}): {said}")
        return (folder / CONVERTED).read_bytes()


def _converted(model: keras.Model, examples: Sequence[NDArray[np.uint8]]) -> bytes:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    shape = (1, *model.input_shape[1:])
    function = tf.function(lambda pixels: model(pixels, training=False))
    # frozen first: the converter's calibrator cannot read Keras 3's resource variables
    frozen = convert_variables_to_constants_v2(
        function.get_concrete_function(tf.TensorSpec(shape, tf.float32))
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    if not examples:
        plain: bytes = converter.convert()
        return plain
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([scaled(_full_range(example))] for example in examples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.int8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "statistics for quantized inputs were expected": they are measured
        content: bytes = converter.convert()
    require_all_int8(content)
    return content


def _full_range(example: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy with one black and one white pixel, so that a stored 0..255 means a pixel's 0..255."""
    copy = example.copy()
    copy[0, 0, 0], copy[0, 0, 1] = 0, 255
    return copy


def require_all_int8(content: bytes) -> None:
    """Raise InterpreterError naming the tensors that are not integers.

    One float operation costs more time than it looks, and XNNPACK leaves the rest to slow kernels.
    """
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    found = [
        f"{detail['name']} ({np.dtype(detail['dtype']).name})"
        for detail in interpreter.get_tensor_details()
        if np.dtype(detail["dtype"]) not in INTEGERS
    ]
    if found:
        raise InterpreterError(f"model.tflite: every tensor must be an integer, found {', '.join(found[:5])}")


class Int8Model:
    """A .tflite in memory, with any number of outputs."""

    def __init__(self, content: bytes, memory: Memory | None = None) -> None:
        """`memory`: what its evidence is the distance from; None where it gives evidence itself."""
        self._memory = memory
        self._interpreter = Interpreter(model_content=content, num_threads=default_threads())
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._outputs = self._interpreter.get_output_details()

    @property
    def input_quantization(self) -> Quantization:
        return Quantization(*self._input["quantization"])

    @property
    def output_quantization(self) -> Quantization:
        """Of the first output."""
        return Quantization(*self._outputs[0]["quantization"])

    @property
    def quantizations(self) -> list[Quantization]:
        """Of each output."""
        return [Quantization(*output["quantization"]) for output in self._outputs]

    @property
    def stride(self) -> int:
        """Input px a cell of the first output."""
        return int(self._input["shape"][2] // self._outputs[0]["shape"][2])

    @property
    def output_bytes(self) -> int:
        """Of all outputs for one image, as they are stored."""
        return sum(int(np.prod(output["shape"])) for output in self._outputs)

    def run(self, tensor: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        """The outputs for a uint8 (1, h, w, 3), each float32 (h, w, channels), one after the other."""
        return self.real(self.outputs(tensor))

    def real(self, stored: Sequence[NDArray[np.int8]]) -> Iterator[NDArray[np.float32]]:
        """What the numbers of `outputs` stand for."""
        for values, output in zip(stored, self._outputs, strict=True):
            scale, zero_point = output["quantization"]
            yield (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)

    def evidence(self, tensor: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The mean of the first output's maps, float32 (h, w), for a uint8 (1, h, w, 3)."""
        return self._judge(tensor)[0]

    def _judge(self, tensor: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Scale]:
        if self._memory is not None:
            return self._memory.judge(self.turned(tensor, upright=self._memory.spec.upright))
        return next(self.run(tensor)).mean(axis=2, dtype=np.float32), AS_IT_IS

    def turned(self, tensor: NDArray[np.uint8], *, upright: bool) -> TurnedFeatures:
        """The first output as it is stored, for a part that is turned first where that is asked for."""
        return TurnedFeatures.of(tensor, self.stored, upright=upright)

    def stored(self, tensor: NDArray[np.uint8]) -> NDArray[np.int8]:
        """The first output as it is stored, int8 (h, w, channels)."""
        return self.outputs(tensor)[0]

    def outputs(self, tensor: NDArray[np.uint8]) -> list[NDArray[np.int8]]:
        """All of them as they are stored, each int8 (h, w, channels)."""
        self._interpreter.set_tensor(self._input["index"], tensor)
        self._interpreter.invoke()
        return [np.asarray(self._interpreter.get_tensor(one["index"])[0]) for one in self._outputs]

    def predict(self, model_input: ModelInput, pooling: Pooling, scores: ScoreCalibration) -> Prediction:
        """What the device would say of it."""
        _, height, width, _ = self._outputs[0]["shape"]
        return predict(model_input, (int(height), int(width)), self._judge, pooling, scores)

    def run_batch(self, tensors: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The first output for each of (n, h, w, 3): float32 (n, h', w', channels)."""
        return np.stack([next(self.run(tensor[np.newaxis])) for tensor in tensors])


class FloatModel:
    """A .tflite of to_float in memory, with one output."""

    def __init__(self, content: bytes) -> None:
        self._interpreter = Interpreter(model_content=content, num_threads=default_threads())
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def run_batch(self, tensors: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As Int8Model.run_batch."""
        return np.concatenate([self._run(scaled(tensor[np.newaxis])) for tensor in tensors])

    def _run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        self._interpreter.set_tensor(self._input, image)
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_tensor(self._output))


def main(folder: Path) -> None:
    """The other process's part, on TensorFlow: from MODEL and EXAMPLES in a folder to CONVERTED."""
    model = keras.saving.load_model(folder / MODEL, compile=False)
    (folder / CONVERTED).write_bytes(_converted(model, list(np.load(folder / EXAMPLES))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

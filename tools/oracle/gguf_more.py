"""Q2_0 for the gguf package, which does not know it yet (0.19.0): number 42, 64 elements under a float16 scale, four
in a byte, codes 0..3 for -1..2. Importing this is all; where the package knows the type, nothing happens."""
import gguf
import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T


def add(name, number, block, size):
    member = int.__new__(T, number)
    member._name_, member._value_ = name, number
    T._member_map_[name] = T._value2member_map_[number] = member
    T._member_names_.append(name)
    type.__setattr__(T, name, member)
    GGML_QUANT_SIZES[member] = (block, size)


if "Q2_0" not in T.__members__:
    add("Q2_0", 42, 64, 18)

    class Q2_0(getattr(quants, "__Quant"), qtype=T.Q2_0):
        @classmethod
        def quantize_blocks(cls, blocks):
            d = abs(blocks).max(axis=1, keepdims=True)
            with np.errstate(divide="ignore"):
                inverse = np.where(d > 0, np.float32(1) / d, np.float32(0))
            x = (blocks * inverse).astype(np.float32)
            q = np.clip(np.trunc(x + np.copysign(np.float32(0.5), x)) + 1, 0, 3).astype(np.uint8).reshape(-1, 16, 4)
            q = q[..., 0] | q[..., 1] << 2 | q[..., 2] << 4 | q[..., 3] << 6
            return np.concatenate([d.astype(np.float16).view(np.uint8), q], axis=1)

        @classmethod
        def dequantize_blocks(cls, blocks):
            d = blocks[:, :2].copy().view(np.float16).astype(np.float32)
            q = blocks[:, 2:, None] >> np.array([0, 2, 4, 6], np.uint8) & np.uint8(3)
            return (q.astype(np.float32) - 1).reshape(len(blocks), 64) * d

assert gguf.GGMLQuantizationType is T

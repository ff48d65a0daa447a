"""Elementary functions of float32 that LLVM turns into vector instructions, since they have no branches."""

import numpy as np

from .compiling import kernel, part

_F = np.float32
_LARGEST_POWER, _SMALLEST_POWER = _F(88.0), _F(-87.0)
_LOG2_E = _F(1.4426950408889634)
# The logarithm of 2 as a sum, whose first part has few digits, so that its multiples are exact.
_LOG2_HIGH, _LOG2_LOW = _F(0.693359375), _F(-2.12194440e-4)
_LOG2 = _F(0.6931471805599453)
_EXPONENT, _BIAS = np.int32(23), _F(127.0)
_ONE_EXPONENT = _F(8388608.0)  # 2 ** 23
_ROOT_HALF_BITS = np.int32(0x3F3504F3)


@part
def exp32(x):
    """Return e ** x within 2e-7 of it, for float32 x; x beyond -87..88 counts as the nearer of them."""
    x = min(max(x, _SMALLEST_POWER), _LARGEST_POWER)
    whole = np.floor(x * _LOG2_E + _F(0.5))
    part = x - whole * _LOG2_HIGH - whole * _LOG2_LOW
    # The Taylor series of e ** part, -0.35 to 0.35.
    power = part * _F(1 / 5040) + _F(1 / 720)
    power = power * part + _F(1 / 120)
    power = power * part + _F(1 / 24)
    power = power * part + _F(1 / 6)
    power = power * part + _F(0.5)
    power = power * part + _F(1.0)
    power = power * part + _F(1.0)
    return power * np.int32((whole + _BIAS) * _ONE_EXPONENT).view(np.float32)


@part
def log32(x):
    """Return the logarithm of a positive, normal float32 x."""
    bits = _F(x).view(np.int32)
    exponent = np.int32((bits - _ROOT_HALF_BITS) >> _EXPONENT)
    mantissa = np.int32(bits - (exponent << _EXPONENT)).view(np.float32)
    # 2 artanh(s) as a series; the mantissa lies within 0.71 to 1.42, so s within -0.18 to 0.18.
    s = (mantissa - _F(1.0)) / (mantissa + _F(1.0))
    square = s * s
    series = square * _F(2 / 9) + _F(2 / 7)
    series = series * square + _F(2 / 5)
    series = series * square + _F(2 / 3)
    series = series * square + _F(2.0)
    return _F(exponent) * _LOG2 + s * series


@part
def asinh32(x):
    """Return the inverse hyperbolic sine of float32 x, up to 1e15 on both sides."""
    size = abs(x)
    result = log32(size + np.sqrt(size * size + _F(1.0)))
    return -result if x < _F(0.0) else result


@part
def sigmoid32(x):
    """Return 1 / (1 + e ** -x)."""
    return _F(1.0) / (_F(1.0) + exp32(-x))


@part
def tanh32(x):
    """Return the hyperbolic tangent of float32 x."""
    return _F(1.0) - _F(2.0) / (_F(1.0) + exp32(_F(2.0) * x))


@kernel
def silu(values):
    """Replace each of the values by its product with its sigmoid; values: float32 [N]."""
    for at in range(values.shape[0]):
        values[at] = values[at] / (_F(1.0) + exp32(-values[at]))


@kernel
def add_product(left, right, into):
    """Add left @ right to `into`: float32 [N, I], [I, O] and [N, O].

    Four rows of `right` at a time, so that `into` is read and written once for four multiplications.
    """
    inner, outer = right.shape
    fours = inner - inner % 4
    for i in range(0, fours, 4):
        first, second, third, fourth = right[i], right[i + 1], right[i + 2], right[i + 3]
        for n in range(left.shape[0]):
            a, b, c, d = left[n, i], left[n, i + 1], left[n, i + 2], left[n, i + 3]
            row = into[n]
            for o in range(outer):
                row[o] += a * first[o] + b * second[o] + c * third[o] + d * fourth[o]
    for i in range(fours, inner):
        last = right[i]
        for n in range(left.shape[0]):
            a, row = left[n, i], into[n]
            for o in range(outer):
                row[o] += a * last[o]

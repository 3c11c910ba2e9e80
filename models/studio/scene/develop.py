"""From the renderer's linear light to a picture, as a camera's raw file is developed."""

import math
from typing import NamedTuple

import numpy as np

from .colors import LUMINANCE, to_srgb


class Grade(NamedTuple):
    """How a look's pictures are developed."""

    # Luminance that the middle of the picture is metered to.
    exposure: float
    # Exponent of the tone curve.
    contrast: float
    # Factor of saturation.
    saturation: float
    # How much darker corners get.
    vignette: float
    # Colours that shadows and lights are tinted with, and how much (split toning).
    shadows: tuple[float, float, float]
    lights: tuple[float, float, float]
    toning: float
    # Standard deviation of the grain, of 0..1.
    grain: float


def develop(linear, grade, seed):
    """Linear light (rows x columns x 3, float32) to 8-bit sRGB: metering, tone curve, grade and grain."""
    height, width = linear.shape[:2]
    weights = np.array(LUMINANCE, np.float32)
    linear = np.nan_to_num(np.maximum(linear, 0))
    luminance = linear @ weights
    row, column = np.mgrid[0:height, 0:width]
    radius2 = (column / width - 0.5) ** 2 + (row / height - 0.5) ** 2

    # The middle counts most; the brightest parts are kept between 0.45 and 1.6, in part.
    metering = 0.4 + np.exp(-radius2 / 0.06)
    log_mean = math.exp(float((np.log(luminance + 1e-4) * metering).sum() / metering.sum()))
    mean = float((luminance * metering).sum() / metering.sum())
    gain = grade.exposure / math.sqrt(log_mean * mean)
    brightest = float(np.percentile(luminance, 98.5)) * gain
    if brightest > 1.6:
        gain *= (1.6 / brightest) ** 0.8
    if brightest < 0.45:
        gain *= (0.45 / brightest) ** 0.6
    exposed = linear * gain * (1 - grade.vignette * 2 * radius2[..., None])

    # A sigmoid through 0.18 that reaches 1 at 6; by channel, in part by luminance, which holds hues.
    pivot = 0.18**grade.contrast * (1 / 0.18 - 1)

    def curve(t):
        return t**grade.contrast / (t**grade.contrast + pivot)

    top = curve(6.0)
    luminance = exposed @ weights
    by_channel = curve(exposed) / top
    by_luminance = (curve(luminance) / top)[..., None] * exposed / np.maximum(luminance, 1e-6)[..., None]
    picture = 0.72 * by_channel + 0.28 * np.minimum(by_luminance, 1.0)

    luminance = (picture @ weights)[..., None]
    picture = luminance + (picture - luminance) * grade.saturation
    in_shadow = (1 - np.clip(luminance * 1.6, 0, 1)) ** 2
    tint = in_shadow * (tint_of(grade.shadows) - 1) + (1 - in_shadow) * 0.4 * (tint_of(grade.lights) - 1)
    picture = to_srgb(picture * (1 + grade.toning * tint))

    gray_grain = np.random.default_rng(seed).normal(0, grade.grain, (height, width, 1)) * np.ones(3)
    color_grain = np.random.default_rng(seed + 1).normal(0, grade.grain * 0.4, (height, width, 3))
    return (np.clip(picture + (gray_grain + color_grain), 0, 1) * 255 + 0.5).astype(np.uint8)


def tint_of(color):
    """`color` at luminance 1."""
    return np.array(color) / (np.array(color) @ LUMINANCE)

"""Colours are triples of linear sRGB, 0..1, unless a name says otherwise."""

import math

import numpy as np

# Weights of linear sRGB in luminance (Rec. 709).
LUMINANCE = (0.2126, 0.7152, 0.0722)


def lerp(a, b, t):
    """From `a` at t = 0 to `b` at t = 1."""
    return a + (b - a) * t


def scaled(color, factor):
    """`color` times `factor`, at most 1."""
    return tuple(min(1, x * factor) for x in color)


def mixed(a, b, t):
    """From colour `a` at t = 0 to colour `b` at t = 1."""
    return tuple(lerp(x, y, t) for x, y in zip(a, b, strict=True))


def oklch(lightness, chroma, hue):
    """OKLCH (Ottosson 2020; hue in degrees) to linear sRGB, with less chroma where it is out of gamut."""
    for _ in range(14):
        a = chroma * math.cos(math.radians(hue))
        b = chroma * math.sin(math.radians(hue))
        l3 = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
        m3 = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
        s3 = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3
        color = (
            4.0767416621 * l3 - 3.3077115913 * m3 + 0.2309699292 * s3,
            -1.2684380046 * l3 + 2.6097574011 * m3 - 0.3413193965 * s3,
            -0.0041960863 * l3 - 0.7034186147 * m3 + 1.707614701 * s3,
        )
        if min(color) >= -1e-4 and max(color) <= 1.0001:
            break
        chroma *= 0.85
    return tuple(min(1, max(0, x)) for x in color)


def to_srgb(linear):
    """Linear sRGB to sRGB by the standard's curve (IEC 61966-2-1), both 0..1; an array or a triple."""
    linear = np.clip(np.asarray(linear, dtype=np.float64), 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def kelvin(temperature, white=5600.0):
    """Colour, of luminance 1, of light of a temperature under a camera balanced for `white`, both in kelvin.

    A fit by powers that is good enough from 2700 to 8000 K: lower is redder, higher bluer.
    """
    ratio = temperature / white
    color = np.array([ratio**-0.62, 1.0, ratio**0.80])
    return tuple(color / (color @ LUMINANCE))

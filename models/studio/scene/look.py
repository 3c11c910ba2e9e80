"""A look: the palette that all materials and lights of a picture draw their colours from."""

import random
from typing import NamedTuple

from . import materials
from .colors import oklch
from .draws import weighted
from .shader import Shader


class Mood(NamedTuple):
    """A way to light; all but the weight are ranges."""

    weight: float
    # Of the backdrop, OKLCH.
    lightness: tuple[float, float]
    # The key light's colour temperature in kelvin and its width, and the fill light's power (the key's is 1).
    kelvin: tuple[int, int]
    size: tuple[float, float]
    fill: tuple[float, float]
    # Strength of the ambient light.
    ambient: tuple[float, float]
    # Luminance that the picture's middle is developed to.
    exposure: tuple[float, float]


MOODS = {
    "soft": Mood(2.2, (0.55, 0.92), (4800, 7000), (2.5, 5), (0.2, 0.5), (0.15, 0.4), (0.2, 0.28)),
    "high": Mood(1.6, (0.88, 0.97), (5200, 6500), (3, 6), (0.5, 0.9), (0.4, 0.8), (0.36, 0.5)),
    "low": Mood(1.6, (0.12, 0.34), (3000, 6500), (0.8, 2.5), (0.03, 0.1), (0.02, 0.05), (0.06, 0.095)),
    "sun": Mood(1.9, (0.5, 0.92), (4200, 5800), (0.15, 0.5), (0.06, 0.25), (0.08, 0.25), (0.15, 0.24)),
    "evening": Mood(1.2, (0.3, 0.7), (2700, 3600), (0.4, 2.0), (0.05, 0.22), (0.03, 0.12), (0.09, 0.16)),
    "gel": Mood(1.0, (0.3, 0.85), (4500, 7500), (1.0, 3), (0.25, 0.7), (0.04, 0.15), (0.11, 0.2)),
    "neutral": Mood(1.0, (0.45, 0.8), (4500, 6500), (1.2, 3.5), (0.12, 0.4), (0.1, 0.3), (0.15, 0.24)),
}


class Family(NamedTuple):
    """A kind of colours: its weight and its OKLCH ranges."""

    weight: float
    chroma: tuple[float, float]
    lightness: tuple[float, float]


FAMILIES = {
    "pastel": Family(2, (0.03, 0.09), (0.75, 0.92)),
    "vivid": Family(2, (0.12, 0.22), (0.5, 0.78)),
    "earth": Family(2, (0.03, 0.09), (0.4, 0.75)),
    "mono": Family(1.2, (0, 0.015), (0.15, 0.95)),
    "natural": Family(1.6, (0.01, 0.05), (0.5, 0.92)),
    "deep": Family(1.3, (0.06, 0.14), (0.2, 0.45)),
}

# Hues of a palette from its first, in degrees, and how often it is drawn.
SCHEMES = {
    "monochrome": (1, [0, 5, -5, 8]),
    "analogous": (2, [0, 30, -30, 50]),
    "complementary": (2, [0, 180, 165, 20]),
    "triadic": (1.2, [0, 120, 240, 20]),
    "split": (1, [0, 150, 210, 30]),
}


class Look:
    """Palette, mood and materials of a look.

    `print_size`: pixels along the longer side of a label's print. Materials are made when first asked for,
    each from draws of its own, so that a look is the same on every layout.
    """

    def __init__(self, seed, print_size):
        self.seed, self.print_size = seed, print_size
        self.made = {}
        rng = self.rng("main")
        self.mood = weighted(rng, {name: mood.weight for name, mood in MOODS.items()})
        family_name = weighted(rng, {name: family.weight for name, family in FAMILIES.items()})
        family = FAMILIES[family_name]
        self.chroma, self.lightness = family.chroma, family.lightness
        self.hue = rng.uniform(0, 360)
        scheme = weighted(rng, {name: weight for name, (weight, _) in SCHEMES.items()})
        self.hues = [self.hue + shift + rng.uniform(-8, 8) for shift in SCHEMES[scheme][1]]
        if family_name == "earth":
            self.hues = [rng.uniform(35, 95) for _ in range(4)]
        self.back_lightness = rng.uniform(*MOODS[self.mood].lightness)
        self.back_chroma = rng.uniform(*self.chroma) * (0.35 if self.mood == "high" else 0.8)
        self.back_hue = rng.choice(self.hues)
        if rng.random() < 0.18:
            self.back_chroma = rng.uniform(0, 0.02)
        shift = rng.uniform(-0.12, 0.12) if rng.random() < 0.5 else rng.uniform(-0.45, 0.35)
        self.table_lightness = min(0.96, max(0.1, self.back_lightness + shift))
        self.table_like_back = rng.random() < 0.35

    def rng(self, tag):
        """The look's random numbers for one purpose."""
        return random.Random(f"look-{self.seed}-{tag}")

    def color(self, rng, contrast=True):
        """A colour of the palette, at times near white or black; `contrast` keeps it off the backdrop's."""
        hue = rng.choice(self.hues) + rng.uniform(-10, 10)
        kind = rng.random()
        if kind < 0.2:
            lightness, chroma = rng.uniform(0.88, 0.97), rng.uniform(0, 0.02)
        elif kind < 0.32:
            lightness, chroma = rng.uniform(0.12, 0.25), rng.uniform(0, 0.03)
        else:
            lightness, chroma = rng.uniform(*self.lightness), rng.uniform(*self.chroma)
        if contrast and abs(lightness - self.back_lightness) < 0.14 and chroma < 0.1:
            lightness += -0.25 if self.back_lightness > 0.5 else 0.3
        return oklch(lightness, chroma, hue)

    def back_color(self):
        """The backdrop's colour."""
        return oklch(self.back_lightness, self.back_chroma, self.back_hue)

    def material(self, slot):
        """The material of a slot such as "body:0"."""
        if slot not in self.made:
            shader = Shader(slot)
            materials.MATERIALS[slot.split(":")[0]](self, self.rng(slot), shader)
            self.made[slot] = shader.material
        return self.made[slot]

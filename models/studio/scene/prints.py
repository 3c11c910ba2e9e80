"""Prints of labels and cartons, drawn from scratch: a pattern and lines of made-up signs, no font."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from .colors import mixed, to_srgb


class Inks(NamedTuple):
    """The ground's, the text's and the pattern's colour."""

    ground: tuple[float, float, float]
    text: tuple[float, float, float]
    accent: tuple[float, float, float]


class Sheet:
    """What a pattern draws on: `pen` on `image` of width x height pixels."""

    def __init__(self, width, height, inks):
        self.width, self.height, self.inks = width, height, inks
        self.replace(Image.new("RGB", (width, height), rgb(inks.ground)))

    def replace(self, image):
        """Takes `image` as the ground."""
        self.image = image
        self.pen = ImageDraw.Draw(image)


def rgb(color):
    """Linear sRGB to 0..255."""
    return tuple(int(round(255 * x)) for x in to_srgb(color))


def draw(rng, aspect, size, inks, style):
    """A print of `aspect` (width / height), its longer side `size` pixels: rows x columns x 3, sRGB 0..1."""
    # Drawn at twice the size: the reduction smooths edges.
    scale = size * 2 / max(aspect, 1.0)
    width, height = int(aspect * scale), int(1.0 * scale)
    sheet = Sheet(width, height, inks)
    if style in PATTERNS:
        PATTERNS[style](rng, sheet)
    if rng.random() < 0.92:
        text_block(rng, sheet, style, columns=3 if aspect > 2 else 1)
    half = max(8, width // 2), max(8, height // 2)
    return np.asarray(sheet.image.resize(half, Image.LANCZOS), np.float32) / 255


# ---- patterns ----


def stripes(rng, sheet):
    """Upright or level stripes."""
    width, height = sheet.width, sheet.height
    count = rng.randint(3, 9)
    upright = rng.random() < 0.5
    for i in range(1, count, 2):
        if upright:
            box = [i * width / count, 0, (i + 1) * width / count, height]
        else:
            box = [0, i * height / count, width, (i + 1) * height / count]
        sheet.pen.rectangle(box, fill=rgb(sheet.inks.accent))


def blocks(rng, sheet):
    """The upper or lower part in another colour, at times a strip at the left too."""
    width, height, inks = sheet.width, sheet.height, sheet.inks
    y = rng.uniform(0.3, 0.7) * height
    box = [0, y, width, height] if rng.random() < 0.5 else [0, 0, width, y]
    sheet.pen.rectangle(box, fill=rgb(inks.accent))
    if rng.random() < 0.5:
        x = rng.uniform(0.2, 0.5) * width
        sheet.pen.rectangle([0, 0, x, height], fill=rgb(mixed(inks.accent, inks.text, 0.4)))


def dots(rng, sheet):
    """Dots in staggered rows."""
    count = rng.randint(5, 11)
    step = sheet.width / count
    radius = rng.uniform(0.18, 0.38) * step
    for row in range(int(sheet.height / step) + 2):
        for column in range(count + 1):
            x, y = (column + 0.5 * (row % 2)) * step, row * step
            sheet.pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=rgb(sheet.inks.accent))


def gradient(rng, sheet):
    """From the ground's colour to the accent's, down or across."""
    width, height, inks = sheet.width, sheet.height, sheet.inks
    if rng.random() < 0.6:
        t = np.linspace(0, 1, height)[:, None, None]
    else:
        t = np.linspace(0, 1, width)[None, :, None]
    colors = to_srgb(np.array(inks.ground)) * (1 - t) + to_srgb(np.array(inks.accent)) * t
    pixels = np.broadcast_to(colors, (height, width, 3)) * 255
    sheet.replace(Image.fromarray(pixels.astype(np.uint8)))


def circle(rng, sheet):
    """One disc, at times with a ring in it."""
    width, height, inks = sheet.width, sheet.height, sheet.inks
    radius = rng.uniform(0.25, 0.42) * min(width, height)
    x, y = width / 2, height * rng.uniform(0.35, 0.6)
    sheet.pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=rgb(inks.accent))
    if rng.random() < 0.5:
        radius *= 0.8
        box = [x - radius, y - radius, x + radius, y + radius]
        sheet.pen.ellipse(box, outline=rgb(inks.ground), width=max(1, int(0.02 * width)))


def waves(rng, sheet):
    """Two to four wavy fillings of the lower part."""
    width, height, inks = sheet.width, sheet.height, sheet.inks
    for i in range(rng.randint(2, 4)):
        y, amplitude = height * rng.uniform(0.4, 0.9), height * rng.uniform(0.03, 0.1)
        frequency, phase = rng.uniform(1, 3), rng.uniform(0, 6)
        edge = [
            (x, y + amplitude * math.sin(x / width * 2 * math.pi * frequency + phase))
            for x in range(0, width + 8, 8)
        ]
        sheet.pen.polygon(
            [*edge, (width, height), (0, height)], fill=rgb(mixed(inks.accent, inks.ground, 0.35 * i))
        )


def botanic(rng, sheet):
    """A stem with pairs of leaves."""
    width, height, inks = sheet.width, sheet.height, sheet.inks
    x = width * rng.uniform(0.3, 0.7)
    line_width = max(2, int(0.012 * width))
    sheet.pen.line([x, height * 0.95, x, height * 0.1], fill=rgb(inks.accent), width=line_width)
    for i in range(7):
        y = height * (0.85 - 0.1 * i)
        length = width * rng.uniform(0.12, 0.2) * (1 - 0.06 * i)
        for side in (-1, 1):
            leaf = [
                (x, y),
                (x + side * length * 0.5, y - length * 0.55),
                (x + side * length, y - length * 0.5),
                (x + side * length * 0.55, y - length * 0.1),
            ]
            sheet.pen.polygon(leaf, fill=rgb(mixed(inks.accent, inks.ground, 0.2)))


def frame(rng, sheet):
    """A frame."""
    width, height = sheet.width, sheet.height
    shorter = min(width, height)
    margin = 0.05 * shorter
    box = [margin, margin, width - margin, height - margin]
    sheet.pen.rectangle(box, outline=rgb(sheet.inks.accent), width=max(2, int(0.012 * shorter)))


def triangles(rng, sheet):
    """Scattered triangles."""
    width, height, inks = sheet.width, sheet.height, sheet.inks
    for i in range(rng.randint(4, 9)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        radius = rng.uniform(0.1, 0.4) * min(width, height)
        corners = [(x + radius * math.cos(t + i), y + radius * math.sin(t + i)) for t in (0, 2.1, 4.2)]
        color = mixed(inks.accent, inks.text if i % 2 else inks.ground, rng.uniform(0, 0.5))
        sheet.pen.polygon(corners, fill=rgb(color))


# Every pattern by its style; any other style leaves the ground plain.
PATTERNS = {
    "stripes": stripes,
    "blocks": blocks,
    "dots": dots,
    "gradient": gradient,
    "circle": circle,
    "waves": waves,
    "botanic": botanic,
    "frame": frame,
    "triangles": triangles,
}


# ---- text ----


def text_block(rng, sheet, style, columns):
    """A name, a rule and lines of text, in each of `columns`; on a plate where the pattern is busy."""
    width, height, pen = sheet.width, sheet.height, sheet.pen
    ground, ink, accent = sheet.inks
    rng.uniform(-0.02, 0.02)  # Nothing uses this draw; seeds count on it.
    plate = style in ("dots", "stripes", "triangles", "botanic") and rng.random() < 0.8
    for column in range(columns):
        x0, x1 = width * column / columns, width * (column + 1) / columns
        column_width, center = x1 - x0, (x0 + x1) / 2
        block = column_width * rng.uniform(0.5, 0.75)
        y = height * rng.uniform(0.14, 0.4)
        rng.random()  # Nothing uses this draw; seeds count on it.
        size = min(height * rng.uniform(0.1, 0.2), block * 0.3)
        if plate:
            bottom = min(height * 0.96, y + size * 4.6)
            pen.rectangle(
                [center - block * 0.62, y - size * 0.7, center + block * 0.62, bottom], fill=rgb(ground)
            )
        name_width = block * rng.uniform(0.7, 1)
        count = rng.randint(4, 8)
        stroke = size * rng.uniform(0.1, 0.24)
        signs(rng, pen, center - name_width / 2, y, name_width, size, count, rgb(ink), stroke)
        y += size * 1.5
        if rng.random() < 0.5:
            rule = [center - block * 0.25, y, center + block * 0.25, y + size * 0.1]
            pen.rectangle(rule, fill=rgb(ink if plate else accent))
            y += size * 0.5
        for _ in range(rng.randint(1, 5)):
            if y > height * 0.88:
                break
            line_width = block * rng.uniform(0.45, 0.95)
            line_height = size * rng.uniform(0.22, 0.34)
            count = max(5, int(line_width / line_height / 1.1))
            color = rgb(mixed(ink, ground, 0.15))
            left = center - line_width / 2
            signs(rng, pen, left, y, line_width, line_height, count, color, line_height * 0.16)
            y += line_height * 1.9


def signs(rng, pen, x, y, width, height, count, color, stroke):
    """A line of `count` random signs, built of strokes as letters are."""
    advance = width / count
    for i in range(count):
        left = x + i * advance
        reach = advance * 0.68
        right, bottom = left + reach, y + height
        thick = max(1, int(stroke))
        form = rng.randint(0, 9)
        if rng.random() < 0.8:
            pen.rectangle([left, y, left + thick, bottom], fill=color)
        if form in (0, 3, 5, 7):
            pen.rectangle([left, y, right, y + thick], fill=color)
        if form in (1, 3, 6):
            pen.rectangle([left, bottom - thick, right, bottom], fill=color)
        if form in (2, 5, 6, 8):
            pen.rectangle([left, y + height / 2, left + reach * 0.85, y + height / 2 + thick], fill=color)
        if form in (4, 8):
            pen.line([left, y, right, bottom], fill=color, width=thick)
        if form in (9, 1):
            pen.ellipse([left, y, right, bottom], outline=color, width=thick)
        if form in (7, 9, 0):
            pen.rectangle([right - thick, y, right, bottom], fill=color)

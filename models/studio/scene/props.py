"""Things that stand beside the products: stones, fruit and plain solids."""

import math

import numpy as np

from .classes import PROP
from .draws import weighted
from .meshes import Item, Part, blob, fillet, lathe, move, moved, rounded_box, sweep


def prop(rng, index):
    """One prop, or a stack of stones."""
    kinds = {
        "stone": 2.5,
        "citrus": 1.6,
        "apple": 1.2,
        "pear": 0.7,
        "ball": 1.2,
        "cylinder": 0.7,
        "cube": 0.7,
        "ring": 0.5,
        "stack": 1,
    }
    kind = weighted(rng, kinds)
    solid = ("geo", index)
    if kind == "stone":
        size = rng.uniform(0.16, 0.38)
        roughness, seed = rng.uniform(0.2, 0.5), rng.randint(0, 9999)
        mesh = blob(size, roughness, seed, (1, rng.uniform(0.7, 1), rng.uniform(0.45, 0.75)))
        return Item([Part(mesh, PROP, ("stone", index))], size * 1.1, size * 1.1)
    if kind == "stack":
        return stone_stack(rng)
    if kind == "citrus":
        size = rng.uniform(0.24, 0.36)
        mesh = blob(size, 0.03, rng.randint(0, 9999), (1, 1, rng.uniform(0.88, 1.0)))
        return Item([Part(mesh, PROP, ("citrus", index))], size, 2 * size)
    if kind in ("apple", "pear"):
        return fruit(rng, index, kind)
    if kind == "ball":
        size = rng.uniform(0.14, 0.34)
        profile = [(size * math.sin(a), size - size * math.cos(a)) for a in np.linspace(0, math.pi, 40)]
        return Item([Part(lathe(profile), PROP, solid)], size, 2 * size)
    if kind == "cylinder":
        size, height = rng.uniform(0.15, 0.3), rng.uniform(0.15, 0.7)
        profile = fillet([(0, 0), (size, 0), (size, height), (0, height)], [0, 0.015, 0.02, 0])
        return Item([Part(lathe(profile), PROP, solid)], size, height)
    if kind == "cube":
        size = rng.uniform(0.25, 0.45)
        mesh = rounded_box(size, size, size * rng.uniform(0.6, 1.2), 0.012)
        return Item([Part(mesh, PROP, solid)], size * 0.7, size)
    size = rng.uniform(0.28, 0.4)
    thickness = size * 0.3
    circle = [
        (size * math.cos(t), 0, size + thickness + size * math.sin(t))
        for t in np.linspace(0, 2 * math.pi, 48)
    ]
    return Item([Part(sweep(circle, thickness, 20), PROP, solid)], size * 1.1, 2 * size + 2 * thickness)


def stone_stack(rng):
    """Two to four flat stones on each other."""
    parts, z, size = [], 0, rng.uniform(0.3, 0.42)
    for i in range(rng.randint(2, 4)):
        flatness = rng.uniform(0.35, 0.5)
        mesh = blob(size, 0.15, rng.randint(0, 9999), (1, rng.uniform(0.75, 1), flatness))
        moved(mesh, move(rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03), z))
        parts.append(Part(mesh, PROP, ("stone", i)))
        z += size * flatness * 1.75
        size *= rng.uniform(0.65, 0.85)
    return Item(parts, 0.42, z)


def fruit(rng, index, kind):
    """An apple or a pear with its twig."""
    size = rng.uniform(0.26, 0.36)
    angles = np.linspace(0, math.pi, 30)
    if kind == "apple":
        profile = [
            (
                size * (math.sin(a) ** 0.8) * (1 + 0.06 * math.cos(a)),
                # The last two terms hollow the apple where its twig and its flower are.
                size * (0.86 - 0.86 * math.cos(a))
                + (-0.18 * size * math.exp(-(((a - math.pi) / 0.35) ** 2)))
                + (0.12 * size * math.exp(-((a / 0.3) ** 2))),
            )
            for a in angles
        ]
    else:
        profile = [
            (
                size * math.sin(a) ** 0.85 * (1 - 0.33 * (a / math.pi) ** 1.2),
                size * 1.25 * (1 - math.cos(a)) ** 1.05,
            )
            for a in angles
        ]
    top = profile[-1][1]
    twig = sweep([(0, 0, top - 0.03), (0.01, 0, top + 0.08), (0.04, 0, top + 0.16)], [0.012, 0.01, 0.016], 8)
    parts = [Part(lathe(profile, 48), PROP, ("apple", index)), Part(twig, PROP, ("twig", index))]
    return Item(parts, size, top)


def vase(radius, height):
    """The mesh of a vase."""
    points = [
        (0, 0),
        (radius * 0.7, 0),
        (radius, height * 0.4),
        (radius * 0.35, height * 0.85),
        (radius * 0.45, height),
        (radius * 0.38, height),
        (radius * 0.3, height * 0.85),
    ]
    return lathe(fillet(points, [0, 0.03, radius * 0.5, 0.1, 0.02, 0.01, 0]), 56)

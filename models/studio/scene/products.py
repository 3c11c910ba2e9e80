"""Products. Each function draws one, standing on z = 0 around the origin, its front to -y."""

import math

import numpy as np

from .classes import BODY, CAP, CARTON, CUP, LABEL
from .colors import lerp
from .draws import weighted
from .meshes import (
    Item,
    Part,
    fillet,
    grid_faces,
    lathe,
    mesh_from,
    move,
    moved,
    rectangle,
    rounded_box,
    shell,
    smoothstep,
    sweep,
    turn_z,
)

# ---- closures ----
# Each returns its parts and the height of their top, for a neck of `radius` and the cap's foot at z.


def cap(rng, radius, z, index):
    """A screw cap, a dome, a ball, a dropper, a cork or a cone."""
    kinds = {
        "cylinder": 3,
        "tall": 2,
        "dome": 1.3,
        "ball": 1,
        "ribbed": 2,
        "dropper": 1.2,
        "cork": 0.7,
        "cone": 0.6,
    }
    kind = weighted(rng, kinds)
    slot = ("cap", index)
    if kind in ("cylinder", "tall", "ribbed"):
        height = radius * (rng.uniform(1.6, 2.8) if kind == "tall" else rng.uniform(0.6, 1.1))
        outer = radius * rng.uniform(1.0, 1.22)
        points = [(0, z), (outer, z), (outer * rng.uniform(0.93, 1), z + height), (0, z + height)]
        profile = fillet(points, [0, 0.015, 0.02 + 0.05 * rng.random() * radius, 0])
        mesh = lathe(profile, 128, ribs=40, rib_depth=0.012) if kind == "ribbed" else lathe(profile)
        return [Part(mesh, CAP, slot)], z + height
    if kind == "dome":
        outer = radius * rng.uniform(1, 1.15)
        height = outer * rng.uniform(0.7, 1.5)
        profile = [(0, z), (outer, z)] + [
            (outer * math.cos(t) ** 0.8, z + height * 0.25 + height * 0.75 * math.sin(t))
            for t in np.linspace(0, math.pi / 2 - 0.01, 14)
        ]
        return [Part(lathe(profile), CAP, slot)], z + height
    if kind == "ball":
        ball = radius * rng.uniform(1.2, 1.6)
        collar = [(0, z), (radius * 0.9, z), (radius * 0.9, z + 0.12), (radius * 0.6, z + 0.14)]
        profile = fillet(collar, [0, 0.01, 0.02, 0]) + [
            (ball * math.sin(t), z + 0.1 + ball - ball * math.cos(t))
            for t in np.linspace(0.4, math.pi - 0.01, 22)
        ]
        return [Part(lathe(profile), CAP, slot)], z + 0.1 + 2 * ball
    if kind == "dropper":
        return dropper(rng, radius, z, index)
    if kind == "cork":
        height = radius * rng.uniform(0.8, 1.6)
        foot = z - 0.02
        points = [(0, foot), (radius * 0.82, foot), (radius * 1.0, z + height), (0, z + height)]
        mesh = lathe(fillet(points, [0, 0.01, 0.03, 0]), 48)
        return [Part(mesh, CAP, ("cork", index))], z + height
    height = radius * rng.uniform(1.5, 2.6)
    points = [(0, z), (radius * 1.05, z), (radius * 0.6, z + height), (0, z + height)]
    return [Part(lathe(fillet(points, [0, 0.015, 0.06, 0])), CAP, slot)], z + height


def dropper(rng, radius, z, index):
    """A ribbed collar with a rubber bulb on it."""
    height = radius * rng.uniform(0.9, 1.3)
    outer = radius * 1.08
    top = z + height
    points = [(0, z), (outer, z), (outer, top), (outer * 0.55, top), (0, top)]
    collar = lathe(fillet(points, [0, 0.01, 0.03, 0.01, 0]), 96, ribs=36, rib_depth=0.008)
    bulb = outer * 0.58
    bulb_height = bulb * rng.uniform(2.2, 3.4)
    points = [
        (bulb, top),
        (bulb, top + bulb_height * 0.15),
        (bulb * 0.8, top + bulb_height * 0.25),
        (bulb * 0.85, top + bulb_height * 0.8),
        (bulb * 0.5, top + bulb_height),
        (0, top + bulb_height),
    ]
    rubber = lathe(fillet(points, [0, 0.02, 0.03, bulb * 0.5, bulb * 0.4, 0]), 48)
    parts = [Part(collar, CAP, ("cap", index)), Part(rubber, CAP, ("cap2", index))]
    return parts, top + bulb_height


def pump(rng, radius, z, index):
    """A lotion pump: collar, stem, head and a spout to one side."""
    slot = ("cap", index)
    outer = radius * 1.25
    points = [(0, z), (outer, z), (outer, z + 0.16), (outer * 0.5, z + 0.2), (0, z + 0.2)]
    collar = fillet(points, [0, 0.01, 0.03, 0.03, 0])
    parts = [Part(lathe(collar, ribs=rng.choice([0, 36]), rib_depth=0.01), CAP, slot)]
    stem_foot = z + 0.2
    stem_height = rng.uniform(0.12, 0.3)
    stem = lathe([(0.035, stem_foot - 0.02), (0.035, stem_foot + stem_height)], 24)
    parts.append(Part(stem, CAP, ("cap2", index)))
    head = stem_foot + stem_height
    r = rng.uniform(0.09, 0.14)
    points = [(0, head), (r * 0.8, head), (r, head + 0.1), (r * 0.9, head + 0.15), (0, head + 0.17)]
    parts.append(Part(lathe(fillet(points, [0, 0.02, 0.03, 0.05, 0]), 48), CAP, slot))
    length = rng.uniform(0.3, 0.5)
    yaw = rng.choice([-1, 1]) * rng.uniform(0.2, 1.4) - math.pi / 2
    spout = [
        (
            math.cos(yaw) * length * t,
            math.sin(yaw) * length * t,
            head + 0.1 + 0.03 * t - 0.12 * max(0, t - 0.7) ** 1.2 * 2.5,
        )
        for t in np.linspace(0, 1, 12)
    ]
    parts.append(Part(sweep(spout, np.linspace(0.055, 0.035, 12), 14), CAP, slot))
    return parts, head + 0.17


def trigger(rng, radius, z, index):
    """A trigger sprayer: ribbed collar, housing, barrel, nozzle and lever."""
    slot, slot2 = ("cap", index), ("cap2", index)
    outer = radius * 1.2
    points = [(0, z), (outer, z), (outer, z + 0.18), (outer * 0.75, z + 0.24), (0, z + 0.24)]
    collar = fillet(points, [0, 0.01, 0.03, 0.03, 0])
    parts = [Part(lathe(collar, 96, ribs=32, rib_depth=0.012), CAP, slot2)]
    side = rng.choice([-1, 1])
    foot = z + 0.22
    yaw = turn_z(side * rng.uniform(-0.3, 0.3) + (0 if side > 0 else math.pi))
    parts.append(Part(moved(rounded_box(0.17, 0.16, 0.26, 0.04, foot), yaw), CAP, slot))
    parts.append(Part(moved(rounded_box(0.52, 0.17, 0.15, 0.05, foot + 0.2), yaw @ move(0.1)), CAP, slot))
    parts.append(Part(moved(rounded_box(0.09, 0.11, 0.11, 0.02, foot + 0.22), yaw @ move(0.4)), CAP, slot2))
    lever = [
        (0.2 + 0.12 * t + 0.05 * math.sin(t * 3), 0, foot + 0.22 - 0.38 * t) for t in np.linspace(0, 1, 10)
    ]
    parts.append(Part(moved(sweep(lever, np.linspace(0.05, 0.03, 10), 12, 0.6), yaw), CAP, slot2))
    return parts, foot + 0.35


# ---- products ----


def labels(rng, index, radius_at, z0, z1, exponent=2.0, scale_y=1.0, kind=None):
    """Labels on the straight part of a body between z0 and z1: a band around it, a sticker, two or none."""
    height = z1 - z0
    kind = kind or weighted(rng, {"band": 3, "sticker": 5, "two": 1.2, "none": 1.3})

    def label(low, high, angle0, angle1, material):
        mesh = shell(radius_at, low, high, angle0, angle1, exponent, scale_y)
        return Part(mesh, LABEL, (material, index))

    if kind == "none":
        return []
    if kind == "band":
        low = z0 + height * rng.uniform(0.02, 0.3)
        high = z1 - height * rng.uniform(0.02, 0.3)
        return [label(low, high, -math.pi, math.pi, "labelw")]
    half = rng.uniform(0.7, 1.2)
    low = z0 + height * rng.uniform(0.04, 0.25)
    high = z1 - height * rng.uniform(0.04, 0.3)
    if kind == "sticker":
        return [label(low, high, -half, half, "label")]
    middle = lerp(low, high, rng.uniform(0.3, 0.45))
    gap = 0.03 * height
    return [label(low, middle - gap, -half, half, "label"), label(middle + gap, high, -half, half, "label")]


def bottle(rng, index, closure=cap):
    """A bottle, round to nearly square, with a shoulder and a `closure`."""
    radius = rng.uniform(0.26, 0.46)
    height = rng.uniform(0.75, 1.5) if rng.random() < 0.8 else rng.uniform(0.45, 0.7)
    exponent = weighted(rng, {2.0: 6, 4.0: 1.4, 7.0: 1.2})
    scale_y = 1.0 if rng.random() < 0.6 else rng.uniform(0.55, 0.8)
    if exponent > 2:
        scale_y = rng.uniform(0.6, 1.0)
    neck = radius * rng.uniform(0.28, 0.55) * scale_y
    shoulder_height = rng.uniform(0.05, 0.5) * radius * 2
    neck_height = rng.uniform(0.05, 0.18)
    taper = rng.uniform(0.88, 1.06) if rng.random() < 0.4 else 1.0
    top_radius = radius * taper
    shoulder = rng.choice(["round", "slope", "flat", "curve"])
    points = [(0, 0.02), (radius * 0.85, 0.0), (radius, 0.0), (top_radius, height)]
    radii = [0, 0.02, rng.uniform(0.02, 0.09)]
    if shoulder == "round":
        points += [(neck, height + shoulder_height)]
        radii += [radius * 0.5, 0.06]
    elif shoulder == "slope":
        points += [(neck, height + shoulder_height * 1.3)]
        radii += [0.05, 0.03]
    elif shoulder == "flat":
        points += [(neck, height + 0.04)]
        radii += [rng.uniform(0.03, 0.1), 0.02]
    else:
        points += [(lerp(neck, top_radius, 0.75), height + shoulder_height * 0.65)]
        points += [(neck, height + shoulder_height * 0.8)]
        radii += [0.12, 0.12, 0.05]
    top = points[-1][1] + neck_height
    points += [(neck, top), (0, top)]
    radii += [0.01, 0]
    profile = fillet(points, radii)
    # A square or flat body turns round on the way from the shoulder to the neck.
    z = np.array([p[1] for p in profile])
    roundness = (z - height * 0.98) / max(top - neck_height - height, 0.05)
    roundness = smoothstep(np.clip(roundness, 0, 1))
    body = lathe(
        profile,
        96 if exponent > 2 else 72,
        exponent=lerp(exponent, 2, roundness),
        scale_y=lerp(scale_y, 1, roundness),
    )
    parts = [Part(body, BODY, ("body", index))]

    def radius_at(z):
        return lerp(radius, top_radius, z / height)

    label_top = height - (radius * 0.25 if shoulder == "round" else 0.07)
    parts += labels(rng, index, radius_at, 0.1, label_top, exponent, scale_y)
    if closure is cap:
        closing, top = cap(rng, neck * rng.uniform(1.05, 1.35), top - neck_height * 0.75, index)
    else:
        closing, top = closure(rng, neck, top - neck_height, index)
    return Item(parts + closing, radius * 1.02, top)


def pump_bottle(rng, index):
    """A bottle with a lotion pump."""
    return bottle(rng, index, pump)


def spray_bottle(rng, index):
    """A bottle with a trigger sprayer."""
    return bottle(rng, index, trigger)


def jar(rng, index):
    """A cream jar with a wide lid, plain, ribbed or with a knob."""
    radius = rng.uniform(0.36, 0.62)
    height = radius * rng.uniform(0.7, 1.5)
    inset = rng.uniform(0, 0.06)
    points = [
        (0, 0.01),
        (radius * 0.9, 0),
        (radius, 0),
        (radius, height),
        (radius - inset - 0.03, height + 0.04),
        (0, height + 0.04),
    ]
    radii = [0, 0.01, rng.uniform(0.03, 0.18), rng.uniform(0.02, 0.08), 0.01, 0]
    parts = [Part(lathe(fillet(points, radii), 80), BODY, ("body", index))]
    parts += labels(rng, index, lambda z: radius, 0.09, height - 0.06)
    lid = radius - inset * 0.6
    lid_height = radius * rng.uniform(0.25, 0.55)
    z = height + 0.015
    kind = rng.choice(["plain", "ribbed", "knob"])
    points = [(0, z), (lid, z), (lid, z + lid_height), (0, z + lid_height)]
    profile = fillet(points, [0, 0.012, rng.uniform(0.02, 0.07), 0])
    mesh = lathe(profile, 128, ribs=60 if kind == "ribbed" else 0, rib_depth=0.007)
    parts.append(Part(mesh, CAP, ("cap", index)))
    top = z + lid_height
    if kind == "knob":
        knob = radius * 0.16
        profile = [(knob * 0.5, top - 0.01)] + [
            (knob * math.sin(t), top + knob * (1.1 - math.cos(t)))
            for t in np.linspace(0.6, math.pi - 0.01, 14)
        ]
        parts.append(Part(lathe(profile, 32), CAP, ("cap", index)))
        top += 2 * knob
    return Item(parts, radius, top)


def can(rng, index):
    """A tin can, labelled, with or without a plastic lid."""
    radius = rng.uniform(0.3, 0.5)
    height = rng.uniform(0.7, 1.4)
    points = [
        (0, 0.02),
        (radius * 0.88, 0.02),
        (radius * 0.9, 0),
        (radius * 0.97, 0),
        (radius, 0.05),
        (radius, height - 0.05),
        (radius * 0.97, height),
        (radius * 0.9, height),
        (radius * 0.88, height - 0.03),
        (0, height - 0.03),
    ]
    radii = [0, 0.01, 0.01, 0.01, 0.02, 0.02, 0.01, 0.01, 0.01, 0]
    parts = [Part(lathe(fillet(points, radii), 80), BODY, ("body", index))]
    kind = rng.choice(["band", "band", "sticker"])
    parts += labels(rng, index, lambda z: radius, 0.07, height - 0.07, kind=kind)
    if rng.random() < 0.6:
        lid = radius * rng.uniform(0.98, 1.03)
        lid_height = rng.uniform(0.08, 0.25)
        points = [
            (0, height - 0.02),
            (lid, height - 0.02),
            (lid, height + lid_height),
            (0, height + lid_height),
        ]
        parts.append(Part(lathe(fillet(points, [0, 0.01, 0.03, 0]), 80), CAP, ("cap", index)))
        height += lid_height
    return Item(parts, radius, height)


def tube(rng, index):
    """A cosmetic tube on its cap: round below, pressed flat and wide at the top."""
    radius = rng.uniform(0.24, 0.38)
    height = rng.uniform(1.0, 1.7)
    foot = rng.uniform(0.18, 0.35)
    foot_radius = radius * rng.uniform(0.7, 1.02)

    def widened(t):
        return 1 + 0.28 * t**1.3

    points = [(0, 0), (foot_radius * 0.96, 0), (foot_radius, foot), (0, foot)]
    profile = fillet(points, [0, 0.03, 0.02, 0])
    mesh = lathe(profile, 96, ribs=rng.choice([0, 44]), rib_depth=0.01)
    parts = [Part(mesh, CAP, ("cap", index))]
    t = np.linspace(0, 1, 26)
    profile = [(0, foot - 0.01), (foot_radius * 0.9, foot), (radius * 0.96, foot + 0.02)]
    profile += [(radius, z) for z in foot + 0.03 + t * height]
    t = np.r_[0, 0, 0, t]
    body = lathe(profile, 72, scale_x=widened(t), scale_y=np.maximum(1 - t**1.6 * 0.97, 0.03))
    parts.append(Part(body, BODY, ("body", index)))
    # The label follows the flattening body.
    low, high = rng.uniform(0.12, 0.25), rng.uniform(0.6, 0.85)
    rows, columns = 18, 40
    vertices, uvs = [], []
    for i, t in enumerate(np.linspace(low, high, rows)):
        scale_x, scale_y = widened(t), max(1 - t**1.6 * 0.97, 0.03)
        for j, angle in enumerate(np.linspace(-1.0, 1.0, columns) - math.pi / 2):
            x = radius * scale_x * math.cos(angle)
            y = radius * scale_y * math.sin(angle) - 0.008
            vertices.append((x, y, foot + 0.03 + t * height))
            uvs.append((j / (columns - 1), i / (rows - 1)))
    if rng.random() < 0.8:
        parts.append(Part(mesh_from(vertices, grid_faces(rows, columns), uvs), LABEL, ("label", index)))
    return Item(parts, radius * 1.15, foot + height)


def carton(rng, index):
    """A folding box, some with a lid of its own, with printed panels on the front or the front and a side."""
    width, height = rng.uniform(0.5, 1.0), rng.uniform(0.6, 1.6)
    depth = rng.uniform(0.3, 0.8) * width
    slot = ("carton", index)
    parts = [Part(rounded_box(width, depth, height, rng.uniform(0.006, 0.02)), CARTON, slot)]
    if rng.random() < 0.3:
        lid = rounded_box(width * 1.015, depth * 1.03, height * rng.uniform(0.15, 0.35), 0.01, height * 0.8)
        parts.append(Part(lid, CARTON, ("carton2", index)))
        height = height * 1.1
    kind = rng.random()
    # Panels stay below the lid.
    face = height * 0.72

    def front_panel(x0, x1, z0, z1):
        y = -depth / 2 - 0.006
        mesh = rectangle([(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)])
        parts.append(Part(mesh, LABEL, ("label", index)))

    def side_panel(y0, y1, z0, z1):
        x = width / 2 + 0.006
        mesh = rectangle([(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)])
        parts.append(Part(mesh, LABEL, ("label", index)))

    if kind < 0.65:
        margin = width * rng.uniform(0.08, 0.22)
        z0, z1 = face * rng.uniform(0.12, 0.25), face * rng.uniform(0.8, 0.97)
        front_panel(-width / 2 + margin, width / 2 - margin, z0, z1)
    elif kind < 0.8:
        z0, z1 = face * rng.uniform(0.3, 0.45), face * rng.uniform(0.6, 0.85)
        front_panel(-width / 2 + 0.012, width / 2 - 0.012, z0, z1)
        side_panel(-depth / 2 + 0.012, depth / 2 - 0.012, face * 0.35, face * 0.75)
    return Item(parts, 0.5 * math.hypot(width, depth) * 0.92, height)


def cup(rng, index):
    """A cup, mostly with a drink and a handle; some with a print or on a saucer."""
    slot = ("cup", index)
    radius = rng.uniform(0.36, 0.52)
    height = radius * rng.uniform(1.2, 2.3)
    wall = rng.uniform(0.03, 0.05)
    foot = radius * rng.uniform(0.6, 1.02)
    bulge = rng.uniform(-0.05, 0.1)
    points = [
        (0, 0.03),
        (foot * 0.75, 0.03),
        (foot * 0.8, 0),
        (foot * 0.9, 0),
        (lerp(foot, radius, 0.25) + bulge, height * 0.25),
        (lerp(foot, radius, 0.6) + bulge, height * 0.6),
        (radius, height),
        (radius - wall, height),
        (radius - wall, height * 0.6),
        (foot * 0.8, height * 0.12),
        (0, height * 0.1),
    ]
    radii = [0, 0.01, 0.02, rng.uniform(0.05, 0.15), 0.15, 0.2, wall * 0.49, wall * 0.49, 0.15, 0.15, 0]
    parts = [Part(lathe(fillet(points, radii), 72), CUP, slot)]
    if rng.random() < 0.85:
        level = height * rng.uniform(0.78, 0.92)
        parts.append(Part(lathe([(radius - wall * 0.9, level), (0, level)]), CUP, ("liquid", index)))
    if rng.random() < 0.75:
        reach_z, reach_x = height * rng.uniform(0.28, 0.36), radius * rng.uniform(0.45, 0.7)
        middle = height * rng.uniform(0.5, 0.58)
        x0 = lerp(foot, radius, 0.6) + bulge - 0.02
        handle = [
            (x0 + reach_x * max(0, math.cos(t)) ** 0.8, 0, middle + reach_z * math.sin(t))
            for t in np.linspace(-math.pi / 2, math.pi / 2, 22)
        ]
        yaw = rng.choice([-1, 1]) * rng.uniform(0.1, 0.9)
        turn = turn_z(yaw if rng.random() < 0.5 else math.pi - yaw)
        mesh = sweep(handle, rng.uniform(0.05, 0.075), 14, rng.uniform(0.6, 1.2))
        parts.append(Part(moved(mesh, turn), CUP, slot))
    if rng.random() < 0.3:

        def radius_at(z):
            return lerp(foot, radius, z / height) + bulge * 0.8

        gap = 0.012 + max(0, bulge * 0.25)
        mesh = shell(radius_at, height * 0.3, height * 0.72, -0.5, 0.5, gap=gap)
        parts.append(Part(mesh, LABEL, ("label", index)))
    if rng.random() < 0.3:
        saucer = radius * 1.75
        for part in parts:
            moved(part.mesh, move(0, 0, 0.045))
        points = [
            (0, 0.015),
            (saucer * 0.5, 0),
            (saucer * 0.6, 0),
            (saucer, 0.1),
            (saucer * 0.985, 0.12),
            (saucer * 0.6, 0.045),
            (0, 0.04),
        ]
        parts.append(Part(lathe(fillet(points, [0, 0.01, 0.02, 0.02, 0.01, 0.05, 0]), 72), CUP, slot))
        return Item(parts, saucer, height)
    return Item(parts, radius + 0.06, height)


# Every kind of product and how it is made.
PRODUCTS = {
    "bottle": bottle,
    "pump": pump_bottle,
    "spray": spray_bottle,
    "jar": jar,
    "can": can,
    "tube": tube,
    "carton": carton,
    "cup": cup,
}

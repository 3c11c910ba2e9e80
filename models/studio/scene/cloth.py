"""Cloth: a crumpled sheet on the table and a curtain."""

import math

import numpy as np

from .meshes import grid_faces, mesh_from, smoothstep


def sheet(rng, center_x, center_y, feet):
    """A crumpled sheet around a point, pressed flat where a product stands; `feet` are (x, y, radius, z)."""
    width, height = rng.uniform(2.2, 5.0), rng.uniform(1.6, 3.6)
    count = 130
    yaw = rng.uniform(-0.6, 0.6)
    grid = np.linspace(-0.5, 0.5, count)
    x, y = np.meshgrid(grid * width, grid * height)
    # Wavy edges.
    x = x + 0.06 * np.sin(y * rng.uniform(1, 3) + 1) * rng.random() + 0.05 * np.sin(y * 5 + 2)
    y = y + 0.05 * np.sin(x * 4.3 + rng.uniform(0, 6)) + 0.08 * np.sin(x * 1.7 + rng.uniform(0, 6))
    z = np.zeros_like(x)
    # Folds: ridges along wavy lines across the sheet, of a height that varies along them.
    for _ in range(rng.randint(5, 10)):
        angle = rng.uniform(0, math.pi)
        cos, sin = math.cos(angle), math.sin(angle)
        along = y * cos - x * sin
        wave = np.sin(along * rng.uniform(0.7, 2.0) + rng.uniform(0, 6))
        across = x * cos + y * sin + 0.15 * wave - rng.uniform(-0.6, 0.6) * width * 0.5
        breadth = rng.uniform(0.06, 0.2)
        ridge = rng.uniform(0.4, 1.3) * breadth * np.exp(-((across / breadth) ** 2))
        z = np.maximum(z, ridge * (0.55 + 0.45 * np.sin(along * rng.uniform(0.5, 1.5) + rng.uniform(0, 6))))
    z = np.maximum(z, 0) + 0.012 * (1 + np.sin(x * 3.1 + y * 2.3))
    cos, sin = math.cos(yaw), math.sin(yaw)
    world_x, world_y = center_x + x * cos - y * sin, center_y + x * sin + y * cos
    for foot_x, foot_y, radius, _ in feet:
        distance = np.hypot(world_x - foot_x, world_y - foot_y)
        z = z * smoothstep(np.clip((distance - radius * 1.0) / 0.35, 0, 1))
    vertices = np.stack([world_x, world_y, z + 0.008], -1).reshape(-1, 3)
    uvs = np.stack(np.meshgrid(grid * width, grid * height), -1).reshape(-1, 2)
    return mesh_from(vertices, grid_faces(count, count), uvs)


def curtain(rng, y):
    """A hanging curtain at y, over the left, the right or all of the backdrop."""
    x0, x1 = rng.choice([(-9, rng.uniform(-0.6, 0.8)), (rng.uniform(-0.8, 0.6), 9), (-9, 9)])
    columns, rows = 260, 12
    frequency, drift = rng.uniform(3, 7), rng.uniform(1, 2.5)
    depth = rng.uniform(0.08, 0.22)
    phase = rng.uniform(0, 6)

    def fold(x, z):
        main = math.sin(x * frequency + 1.2 * math.sin(x * drift + phase) + 0.25 * z * math.sin(x))
        return y + depth * (main + 0.4 * math.sin(x * frequency * 2.1 + z * 0.3))

    vertices = [(x, fold(x, z), z) for z in np.linspace(0, 9, rows) for x in np.linspace(x0, x1, columns)]
    return mesh_from(vertices, grid_faces(rows, columns), [(v[0], v[2]) for v in vertices])

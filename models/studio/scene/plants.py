"""Sprigs and large leaves."""

import math

import numpy as np
from mathutils import Matrix, Vector

from .colors import lerp
from .meshes import grid_faces, mesh_from, sweep, turn_y, turn_z

# Length and width of a leaf, by the kind of sprig.
LEAVES = {"eucalyptus": (0.34, 0.15), "willow": (0.5, 0.055), "fern": (0.42, 0.04), "laurel": (0.5, 0.13)}


class LeafMesh:
    """Many leaves in one mesh."""

    def __init__(self):
        self.vertices, self.faces, self.uvs = [], [], []

    def add(self, matrix, length, width, curl, bend, rows=9, columns=5, tip=1.0):
        """A leaf along `matrix`'s x. `curl` lifts edges, `bend` lowers the tip, `tip` < 1 makes it wider."""
        first = len(self.vertices)
        for i in range(rows):
            t = i / (rows - 1)
            half = width * (math.sin(math.pi * t**tip) ** 0.75 if 0 < t < 1 else 0.0) + 0.002
            for j in range(columns):
                s = j / (columns - 1) * 2 - 1
                z = -bend * length * t * t + curl * width * s * s * 1.2 - 0.12 * width * (1 - abs(s))
                self.vertices.append(matrix @ Vector((length * t, half * s, z)))
                self.uvs.append((t, j / (columns - 1)))
        self.faces += grid_faces(rows, columns, first)

    def mesh(self):
        """All leaves so far as a mesh."""
        return mesh_from(self.vertices, self.faces, self.uvs)


def sprig(rng, length, kind, hang=1.0):
    """A sprig up from the origin, bent over by `hang`: pairs of mesh and material, leaves and stem."""
    count = 18
    sway, droop = rng.uniform(-0.5, 0.5), rng.uniform(0.2, 0.8) * hang
    yaw = rng.uniform(-math.pi, math.pi)
    points = []
    for k in range(count):
        t = k / (count - 1)
        bend = droop * t * t
        x, y = math.sin(bend) * length * t * 0.8, sway * length * t * t * 0.3
        points.append(Vector((x, y, length * t * math.cos(bend * 0.8))))
    turn = Matrix.Rotation(yaw, 3, "Z")
    points = [turn @ p for p in points]
    # All four are drawn, whichever is used: seeds count on it.
    nodes = {
        "eucalyptus": rng.randint(7, 11),
        "willow": rng.randint(10, 18),
        "fern": rng.randint(14, 22),
        "laurel": rng.randint(6, 10),
    }[kind]
    leaves = LeafMesh()
    for i in range(nodes):
        t = lerp(0.18, 0.97, i / (nodes - 1))
        at = t * (count - 1)
        k = min(int(at), count - 2)
        point = points[k].lerp(points[k + 1], at - k)
        along = (points[k + 1] - points[k]).normalized()
        for side in (0, 1) if kind in ("eucalyptus", "fern") else (i % 2,):
            matrix, length, width = leaf_place(rng, kind, i, side, t, along)
            if matrix is None:
                continue
            matrix.translation = point
            curl, bend = rng.uniform(0.1, 0.5), rng.uniform(0.0, 0.4)
            leaves.add(matrix, length, width, curl, bend, tip=0.8 if kind == "eucalyptus" else 1.0)
    return [(leaves.mesh(), "leaf"), (sweep(points, np.linspace(0.022, 0.008, count), 8), "stem")]


def leaf_place(rng, kind, node, side, t, along):
    """Direction (a matrix, or none where it is undefined), length and width of a leaf at t of a stem."""
    if kind in ("laurel", "willow"):
        angle = node * 2.4
    else:
        angle = (node % 2) * (math.pi / 2 if kind == "eucalyptus" else 0) + 0.2
    out = along.orthogonal().normalized()
    out.rotate(Matrix.Rotation(angle + side * math.pi + rng.uniform(-0.25, 0.25), 3, along))
    scale = math.sin(math.pi * min(1, 0.12 + t * 0.9)) + 0.1 if kind == "fern" else 1 - 0.55 * t
    length, width = LEAVES[kind]
    length *= scale * rng.uniform(0.85, 1.15)
    width *= scale * rng.uniform(0.85, 1.15)
    x = (out + along * rng.uniform(0.5, 1.0) * (0.45 if kind == "fern" else 1.1)).normalized()
    y = x.cross(out.cross(along)).normalized() if kind == "fern" else along.cross(x).normalized()
    if y.length < 0.1:
        return None, length, width
    return Matrix((x, y, x.cross(y))).transposed().to_4x4(), length, width


def large_leaves(rng):
    """Two to four large leaves from one point: pairs of mesh and material, as `sprig` gives."""
    leaves = LeafMesh()
    for _ in range(rng.randint(2, 4)):
        matrix = turn_z(rng.uniform(0, 2 * math.pi)) @ turn_y(-rng.uniform(0.5, 1.25))
        length, width = rng.uniform(1.1, 1.9), rng.uniform(0.22, 0.42)
        curl, bend = rng.uniform(0.1, 0.35), rng.uniform(0.2, 0.6)
        leaves.add(matrix, length, width, curl, bend, 20, 9, 0.85)
    return [(leaves.mesh(), "leaf")]

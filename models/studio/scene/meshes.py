"""Meshes by lathe, sweep and the like. One unit is about a bottle's width; z points up, -y to the camera."""

import math
from typing import NamedTuple

import bmesh
import bpy
import numpy as np
from mathutils import Matrix, Vector, noise


class Part(NamedTuple):
    """A mesh, its class in the label map and its slot: the material's name, and which of that name."""

    mesh: bpy.types.Mesh
    label: int
    slot: tuple[str, int]


class Item(NamedTuple):
    """A product or prop: its parts, the radius of the circle it stands in and its height."""

    parts: list[Part]
    radius: float
    height: float


def move(x=0, y=0, z=0):
    """Matrix of a translation."""
    return Matrix.Translation((x, y, z))


def turn_x(angle):
    """Matrix of a rotation about x, in radians."""
    return Matrix.Rotation(angle, 4, "X")


def turn_y(angle):
    """Matrix of a rotation about y, in radians."""
    return Matrix.Rotation(angle, 4, "Y")


def turn_z(angle):
    """Matrix of a rotation about z, in radians."""
    return Matrix.Rotation(angle, 4, "Z")


def moved(mesh, matrix):
    """`mesh`, itself moved by `matrix`."""
    mesh.transform(matrix)
    return mesh


def mesh_from(vertices, faces, uvs=None, smooth=True):
    """Mesh of vertices (x, y, z), faces of vertex indices and, if given, one texture coordinate a vertex."""
    mesh = bpy.data.meshes.new("mesh")
    mesh.from_pydata([tuple(v) for v in vertices], [], faces)
    if uvs is not None:
        layer = mesh.uv_layers.new(name="UVMap")
        vertex_of_corner = np.empty(len(mesh.loops), np.int32)
        mesh.loops.foreach_get("vertex_index", vertex_of_corner)
        layer.data.foreach_set("uv", np.asarray(uvs, np.float32)[vertex_of_corner].ravel())
    mesh.polygons.foreach_set("use_smooth", [smooth] * len(mesh.polygons))
    mesh.update()
    return mesh


def grid_faces(rows, columns, first=0):
    """Faces of a grid of rows x columns vertices, row by row from vertex `first`."""
    return [
        (
            first + i * columns + j,
            first + i * columns + j + 1,
            first + (i + 1) * columns + j + 1,
            first + (i + 1) * columns + j,
        )
        for i in range(rows - 1)
        for j in range(columns - 1)
    ]


def ring_faces(rings, sides):
    """Faces between rings of `sides` vertices each, closed around."""
    return [
        (i * sides + j, i * sides + (j + 1) % sides, (i + 1) * sides + (j + 1) % sides, (i + 1) * sides + j)
        for i in range(rings - 1)
        for j in range(sides)
    ]


def rectangle(corners):
    """A flat face of four corners, counter-clockwise, with texture coordinates 0..1."""
    return mesh_from(corners, [(0, 1, 2, 3)], [(0, 0), (1, 0), (1, 1), (0, 1)], smooth=False)


def smoothstep(t):
    """Cubic from 0 to 1 with level ends, for t in 0..1."""
    return t * t * (3 - 2 * t)


def fillet(points, radii, steps=5):
    """A polyline of (radius, z) with its corners rounded, each by its own radius; 0 leaves a corner sharp."""
    out = []
    corners = [np.array(p, float) for p in points]
    for i, corner in enumerate(corners):
        if i in (0, len(corners) - 1) or radii[i] <= 0:
            out.append(corner)
            continue
        before, after = corners[i - 1] - corner, corners[i + 1] - corner
        length_before, length_after = np.linalg.norm(before), np.linalg.norm(after)
        if length_before < 1e-6 or length_after < 1e-6:
            out.append(corner)
            continue
        radius = min(radii[i], length_before * 0.48, length_after * 0.48)
        before, after = before / length_before * radius, after / length_after * radius
        # One more point on each straight keeps smooth shading from bending it.
        hold_before = min(1.12, length_before * 0.49 / radius)
        hold_after = min(1.12, length_after * 0.49 / radius)
        out.append(corner + before * hold_before)
        for k in range(steps + 1):
            t = k / steps
            out.append((1 - t) ** 2 * (corner + before) + 2 * t * (1 - t) * corner + t * t * (corner + after))
        out.append(corner + after * hold_after)
    return out


def squareness(cos, sin, exponent):
    """Factor of a circle's radius that makes it a superellipse: 2 gives a circle, more ever squarer ones."""
    if exponent == 2:
        return 1.0
    return (np.abs(cos) ** exponent + np.abs(sin) ** exponent) ** (-1 / exponent)


def lathe(profile, segments=64, exponent=2.0, scale_x=1.0, scale_y=1.0, ribs=0, rib_depth=0.0):
    """A profile of (radius, z) turned about z.

    `exponent` (see `squareness`) and the scales hold for all rings or are given ring by ring; `ribs` waves of
    relative depth `rib_depth` run around. Texture: u around from the front, v along the profile.
    """
    rings = len(profile)
    profile = np.array(profile)
    exponent = np.broadcast_to(np.asarray(exponent, float), rings)
    scale_x = np.broadcast_to(np.asarray(scale_x, float), rings)
    scale_y = np.broadcast_to(np.asarray(scale_y, float), rings)
    angle = np.linspace(0, 2 * math.pi, segments + 1) - math.pi / 2
    cos, sin = np.cos(angle), np.sin(angle)
    vertices = np.zeros((rings, segments + 1, 3))
    uvs = np.zeros((rings, segments + 1, 2))
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(profile, axis=0), axis=1))]
    along /= max(along[-1], 1e-6)
    for i in range(rings):
        radius = max(profile[i, 0], 1e-4) * squareness(cos, sin, exponent[i])
        radius = radius * (1 + (rib_depth * np.sin(angle * ribs) if ribs else 0))
        vertices[i, :, 0] = radius * cos * scale_x[i]
        vertices[i, :, 1] = radius * sin * scale_y[i]
        vertices[i, :, 2] = profile[i, 1]
        uvs[i, :, 0] = np.linspace(0, 1, segments + 1)
        uvs[i, :, 1] = along[i]
    faces = ring_faces(rings, segments)
    return mesh_from(vertices[:, :segments].reshape(-1, 3), faces, uvs[:, :segments].reshape(-1, 2))


def shell(radius_at, z0, z1, angle0, angle1, exponent=2.0, scale_y=1.0, gap=0.006, rows=10, columns=64):
    """A label's surface: part of a turned body of radius `radius_at(z)`, `gap` outside it.

    Angles in radians from the front (-y). Texture: u along the angle, v along z.
    """
    zs = np.linspace(z0, z1, rows)
    angles = np.linspace(angle0, angle1, columns) - math.pi / 2
    angle, z = np.meshgrid(angles, zs)
    cos, sin = np.cos(angle), np.sin(angle)
    radius = np.array([radius_at(t) for t in zs])[:, None] * squareness(cos, sin, exponent)
    vertices = np.stack([(radius + gap) * cos, (radius * scale_y + gap) * sin, z], -1)
    uvs = np.stack(np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows)), -1)
    return mesh_from(vertices.reshape(-1, 3), grid_faces(rows, columns), uvs.reshape(-1, 2))


def sweep(points, radius, sides=12, flatten=1.0):
    """A tube along `points`; its radius is one for all or given point by point. `flatten` scales one axis."""
    points = np.array(points, float)
    count = len(points)
    radius = np.broadcast_to(np.asarray(radius, float), count)
    tangents = np.gradient(points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1)[:, None] + 1e-9
    up = np.array([0, 0, 1.0]) if abs(tangents[0, 2]) < 0.9 else np.array([1.0, 0, 0])
    normal = up - tangents[0] * (up @ tangents[0])
    normal /= np.linalg.norm(normal)
    vertices = []
    for point, tangent, ring_radius in zip(points, tangents, radius, strict=True):
        # The last ring's normal, made square to this tangent: the tube does not twist.
        normal = normal - tangent * (normal @ tangent)
        normal /= np.linalg.norm(normal) + 1e-9
        binormal = np.cross(tangent, normal)
        for j in range(sides):
            t = 2 * math.pi * j / sides
            vertices.append(point + ring_radius * (math.cos(t) * normal * flatten + math.sin(t) * binormal))
    faces = ring_faces(count, sides)
    faces += [tuple(range(sides))[::-1], tuple(range((count - 1) * sides, count * sides))]
    return mesh_from(vertices, faces)


def rounded_box(width, depth, height, bevel, z0=0.0):
    """A box on z0, centred in x and y, its edges rounded by `bevel`. Texture: each side 0..1."""
    shape = bmesh.new()
    bmesh.ops.create_cube(shape, size=1)
    bmesh.ops.scale(shape, vec=(width, depth, height), verts=shape.verts)
    bmesh.ops.translate(shape, vec=(0, 0, height / 2 + z0), verts=shape.verts)
    layer = shape.loops.layers.uv.new("UVMap")
    bmesh.ops.bevel(shape, geom=list(shape.edges), offset=bevel, segments=3, profile=0.5, affect="EDGES")
    for face in shape.faces:
        normal = face.normal
        for corner in face.loops:
            x, y, z = corner.vert.co
            u, v = x / width + 0.5, (z - z0) / height
            if abs(normal.x) > 0.7:
                u = (y / depth + 0.5) * (1 if normal.x > 0 else -1)
            if abs(normal.z) > 0.7:
                v = y / depth + 0.5
            corner[layer].uv = (u, v)
        face.smooth = True
    mesh = bpy.data.meshes.new("box")
    shape.to_mesh(mesh)
    shape.free()
    mesh.set_sharp_from_angle(angle=math.radians(50))
    return mesh


def blob(radius, roughness, seed, squash=(1, 1, 1)):
    """A sphere made uneven by fractal noise, scaled by `squash` and set on z = 0."""
    shape = bmesh.new()
    bmesh.ops.create_icosphere(shape, subdivisions=4, radius=1)
    offset = Vector((seed % 97 * 1.7, seed % 31 * 2.3, seed % 13 * 3.1))
    for v in shape.verts:
        k = 1 + roughness * noise.fractal(v.co * 1.1 + offset, 1.0, 2.0, 3)
        v.co = Vector((v.co.x * k * squash[0], v.co.y * k * squash[1], v.co.z * k * squash[2])) * radius
    lowest = min(v.co.z for v in shape.verts)
    for v in shape.verts:
        v.co.z -= lowest + 0.01 * radius
    for face in shape.faces:
        face.smooth = True
    mesh = bpy.data.meshes.new("blob")
    shape.to_mesh(mesh)
    shape.free()
    return mesh

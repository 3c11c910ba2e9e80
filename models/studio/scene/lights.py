"""Light: a key, a fill and more lamps around the products, shades before a low sun, and the ambient light."""

import math

import bpy
from mathutils import Vector

from .colors import kelvin, oklch
from .develop import Grade
from .look import MOODS
from .meshes import mesh_from


def direction(azimuth, elevation):
    """Unit vector from the products towards a light; azimuth 0 is the front."""
    return Vector(
        (
            math.sin(azimuth) * math.cos(elevation),
            -math.cos(azimuth) * math.cos(elevation),
            math.sin(elevation),
        )
    )


def bright(color, factor):
    """`color` times `factor`, beyond 1."""
    return tuple(factor * x for x in color)


class Rig:
    """The lights of a picture; all sizes and distances are in halves of the products' extent."""

    def __init__(self, layout):
        low, high = layout.low, layout.high
        self.scene = bpy.context.scene
        self.objects = []
        self.center = Vector(((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, high[2] * 0.45))
        self.scale = max(high[0] - low[0], high[2], 1.2) / 2.0

    def add(self, data):
        """Puts a lamp or a mesh into the scene, unseen by the camera."""
        thing = bpy.data.objects.new("light", data)
        self.scene.collection.objects.link(thing)
        thing.visible_camera = False
        self.objects.append(thing)
        return thing

    def lamp(self, kind, power, color):
        """A lamp's data."""
        data = bpy.data.lights.new("light", kind)
        data.energy = power * self.scale * self.scale
        data.color = color
        return data

    def area(self, azimuth, elevation, distance, width, height, power, color):
        """A rectangular lamp that faces the products."""
        data = self.lamp("AREA", power, color)
        data.shape = "RECTANGLE"
        data.size, data.size_y = width * self.scale, height * self.scale
        data.spread = math.pi
        thing = self.add(data)
        place = self.center + direction(azimuth, elevation) * distance * self.scale
        place.z = max(place.z, 0.3)
        aim(thing, place, self.center)

    def spot(self, place, target, angle, power, color):
        """A soft spot from `place` to `target`, both from the products' middle."""
        data = self.lamp("SPOT", power, color)
        data.spot_size = angle
        data.spot_blend = 1.0
        data.shadow_soft_size = 0.2
        thing = self.add(data)
        aim(thing, self.center + place * self.scale, self.center + target * self.scale)

    def shade(self, vertices, faces):
        """A mesh that only casts shadows."""
        thing = self.add(mesh_from(vertices, faces, None, False))
        thing.visible_glossy = thing.visible_diffuse = thing.visible_transmission = False


def aim(thing, place, target):
    """Sets a lamp at `place` and turns it to `target`."""
    thing.location = place
    thing.rotation_euler = (target - place).to_track_quat("-Z", "Y").to_euler()


def light(look, layout):
    """Lights a layout as the look does. Gives the objects added, to be removed afterwards, and the grade."""
    rng = look.rng("light")
    rig = Rig(layout)
    name, mood = look.mood, MOODS[look.mood]

    def gel(lightness, shift=0):
        return bright(oklch(lightness, 0.2, rng.choice(look.hues) + shift), 2)

    side = rng.choice([-1, 1])
    # The camera's white, in kelvin.
    white = rng.uniform(4600, 6200)

    # Key. Some moods draw some of it again; seeds count on all these draws.
    key_color = kelvin(rng.uniform(*mood.kelvin), white)
    azimuth = side * math.radians(rng.uniform(25, 120))
    elevation = math.radians(rng.uniform(20, 62))
    width = rng.uniform(*mood.size)
    height = width * rng.uniform(0.6, 1.6)
    if name == "sun":
        azimuth = side * math.radians(rng.uniform(35, 130))
        elevation = math.radians(rng.uniform(22, 50))
    distance = 10 if name == "sun" else rng.uniform(4.5, 6)
    if name == "low":
        azimuth = side * math.radians(rng.uniform(70, 150))
    rig.area(azimuth, elevation, distance, width, height, 1000 * (distance / 5) ** 2, key_color)

    # Fill, from the other side.
    is_cool = name in ("sun", "evening", "soft")
    fill_color = kelvin(rng.uniform(5500, 8000) if is_cool else rng.uniform(4500, 7000), white)
    if name == "gel":
        fill_color = bright(oklch(0.7, 0.2, rng.choice(look.hues)), 2.2)
    rig.area(
        -azimuth * rng.uniform(0.6, 1.1),
        math.radians(rng.uniform(10, 40)),
        5.5,
        rng.uniform(2.5, 5),
        rng.uniform(2, 4),
        1000 * rng.uniform(*mood.fill),
        fill_color,
    )

    # Rim, from behind.
    if rng.random() < 0.65 or name in ("low", "gel"):
        color = gel(0.7, 60) if name == "gel" else kelvin(rng.uniform(3000, 8000), white)
        rig.area(
            rng.choice([-1, 1]) * math.radians(rng.uniform(125, 165)),
            math.radians(rng.uniform(25, 55)),
            4.5,
            rng.uniform(0.5, 1.5),
            rng.uniform(1.5, 3),
            1000 * rng.uniform(0.2, 0.7),
            color,
        )

    # Strip, low at the side: a long reflection.
    if rng.random() < 0.5:
        rig.area(
            -side * math.radians(rng.uniform(60, 95)),
            math.radians(rng.uniform(5, 20)),
            3.2,
            0.35,
            3.0,
            1000 * rng.uniform(0.04, 0.2),
            kelvin(rng.uniform(4800, 6500), white),
        )

    # Top.
    if rng.random() < 0.35:
        rig.area(
            0,
            math.radians(88),
            4.2,
            rng.uniform(2, 4),
            rng.uniform(2, 4),
            1000 * rng.uniform(0.1, 0.5),
            kelvin(rng.uniform(5000, 7000), white),
        )

    # A pool of light on the backdrop.
    if rng.random() < (0.1 if name == "sun" else 0.4):
        color = gel(0.65) if name == "gel" else kelvin(rng.uniform(3000, 7000), white)
        power, angle = 1000 * rng.uniform(0.6, 2.2), rng.uniform(0.5, 1.1)
        target = Vector((rng.uniform(-1, 1), 3.0, rng.uniform(0.3, 1.6)))
        rig.spot(Vector((rng.uniform(-3, 3), -1.0, 4.2)), target, angle, power, color)

    if name in ("sun", "evening") and rng.random() < 0.6:
        shade_key(rng, rig, direction(azimuth, elevation))

    strength = rng.uniform(*mood.ambient)
    set_ambient(rig.scene.world, kelvin(rng.uniform(5000, 8000), white), strength)

    grade = Grade(
        exposure=rng.uniform(*mood.exposure),
        contrast=rng.uniform(1.25, 1.6),
        saturation=rng.uniform(0.88, 1.1),
        vignette=rng.uniform(0, 0.22),
        shadows=oklch(0.5, 0.05, rng.uniform(180, 280)),
        lights=oklch(0.8, 0.05, rng.uniform(30, 90)),
        toning=rng.uniform(0, 0.35),
        grain=rng.uniform(0.002, 0.006),
    )
    return rig.objects, grade


def shade_key(rng, rig, towards_key):
    """Blinds, window bars or foliage between the key light and the products."""
    k = rig.scale
    plane = towards_key.to_track_quat("Z", "Y").to_matrix().to_4x4()
    plane.translation = rig.center + towards_key * 3.6 * k
    vertices, faces = [], []

    def polygon(points):
        faces.append(tuple(range(len(vertices), len(vertices) + len(points))))
        vertices.extend(plane @ Vector((x, y, 0)) for x, y in points)

    def bar(x, y, half_width, half_height, angle=0.0):
        cos, sin = math.cos(angle), math.sin(angle)
        corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        corners = [(u * half_width, v * half_height) for u, v in corners]
        polygon([(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in corners])

    def leaf(x, y, angle):
        length, width = rng.uniform(0.22, 0.4) * k, 0.055 * k
        cos, sin = math.cos(angle), math.sin(angle)
        outline = [(0, 0), (0.3, 1), (0.65, 0.8), (1, 0), (0.65, -0.8), (0.3, -1)]
        polygon(
            [
                (x + cos * u * length - sin * v * width, y + sin * u * length + cos * v * width)
                for u, v in outline
            ]
        )

    kind = rng.choice(["blinds", "window", "foliage", "foliage"])
    if kind == "blinds":
        pitch, angle = rng.uniform(0.28, 0.55) * k, rng.uniform(-0.15, 0.15)
        for i in range(-12, 13):
            bar(0, i * pitch, 9 * k, pitch * rng.uniform(0.22, 0.26), angle)
    elif kind == "window":
        pitch = rng.uniform(0.9, 1.5) * k
        x, y = rng.uniform(-0.5, 0.5) * pitch, rng.uniform(-0.5, 0.5) * pitch
        for i in range(-3, 4):
            bar(i * pitch + x, 0, 0.09 * k, 9 * k)
            bar(0, i * pitch + y, 9 * k, 0.09 * k)
    else:
        side = rng.choice([-1, 1])
        for _ in range(rng.randint(3, 6)):
            x, y = side * rng.uniform(0.2, 1.8) * k, rng.uniform(-1.2, 1.8) * k
            angle = rng.uniform(0, 2 * math.pi)
            for i in range(rng.randint(7, 13)):
                for turn in (-1, 1):
                    at_x = x + math.cos(angle) * i * 0.16 * k
                    at_y = y + math.sin(angle) * i * 0.16 * k
                    leaf(at_x, at_y, angle + turn * rng.uniform(0.6, 1.0))
    rig.shade(vertices, faces)


def set_ambient(world, color, strength):
    """The world's light: from a quarter of `color` below to all of it above."""
    tree = world.node_tree
    tree.nodes.clear()

    def node(kind):
        return tree.nodes.new("ShaderNode" + kind)

    coordinates, axes, remap = node("TexCoord"), node("SeparateXYZ"), node("MapRange")
    ramp, background, output = node("ValToRGB"), node("Background"), node("OutputWorld")
    remap.inputs["From Min"].default_value = -1
    tree.links.new(coordinates.outputs["Generated"], axes.inputs[0])
    tree.links.new(axes.outputs["Z"], remap.inputs["Value"])
    tree.links.new(remap.outputs[0], ramp.inputs[0])
    tree.links.new(ramp.outputs[0], background.inputs["Color"])
    tree.links.new(background.outputs[0], output.inputs["Surface"])
    below, above = ramp.color_ramp.elements
    below.position, above.position = 0.35, 0.95
    below.color = (*(0.25 * x for x in color), 1)
    above.color = (*color, 1)
    background.inputs["Strength"].default_value = strength

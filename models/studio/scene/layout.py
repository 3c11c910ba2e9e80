"""A layout: what stands where, and from where it is seen."""

import math
import random

import bpy
import numpy as np
from mathutils import Matrix, Vector

from . import cloth, plants, props
from .classes import BACKDROP, CLOTH, PLANT, PROP, TABLE
from .draws import weighted
from .meshes import (
    fillet,
    lathe,
    mesh_from,
    move,
    moved,
    rounded_box,
    turn_x,
    turn_y,
    turn_z,
)
from .products import PRODUCTS

# How often a product is of which kind.
PRODUCT_WEIGHTS = {
    "bottle": 4,
    "pump": 1.6,
    "spray": 0.9,
    "jar": 2.2,
    "can": 1.2,
    "tube": 1.4,
    "carton": 2.6,
    "cup": 1.9,
}


class Layout:
    """The objects of a layout, in Blender's scene, and its camera's parameters.

    `objects`: each with its class as pass index and its material slot ("body:0") as property "slot".
    `low`, `high`: corners of the box around the products. `surroundings`: "cyc" (cyclorama: the
    backdrop curves down into the floor, no table), "wall" (a table to a wall) or "edge" (a table that ends
    before the backdrop).
    """

    def __init__(self, seed):
        rng = random.Random(f"layout-{seed}")
        self.rng = rng
        self.objects = []
        # (x, y, radius, z) of everything that stands on the table.
        self.feet = []
        count = weighted(rng, {1: 2.2, 2: 3.2, 3: 3, 4: 1.6})
        self.surroundings = weighted(rng, {"cyc": 3, "wall": 4, "edge": 3})
        podiums = rng.random() < 0.3
        # One stage under all products in place of a podium under some.
        self.staged = podiums and rng.random() < 0.4
        self.place_products(self.make_products(count), podiums)
        self.center_x = (self.low[0] + self.high[0]) / 2
        self.width = self.high[0] - self.low[0]
        self.height = self.high[2]
        # A sheet on the table below 0.26, a curtain from there to 0.34.
        draping = rng.random()
        if draping < 0.26 and not self.staged:
            mesh = cloth.sheet(rng, self.center_x + rng.uniform(-1, 1), rng.uniform(-0.7, 0.2), self.feet)
            self.add(mesh, CLOTH, ("cloth", 0))
        if rng.random() < 0.45:
            self.place_props()
        if rng.random() < 0.42:
            self.place_plants()
        self.surround(has_curtain=0.26 < draping < 0.34)
        # The camera: how far it looks down, its focal length in mm, the share of the frame the products fill,
        # where in the frame they are, and a measure of its aperture.
        self.pitch = math.radians(rng.uniform(3, 22) if rng.random() < 0.72 else rng.uniform(22, 42))
        self.focal_length = rng.choice([45, 55, 70, 85, 100])
        self.fill = rng.uniform(0.8, 1.02)
        self.offset = (rng.uniform(-0.07, 0.07), rng.uniform(-0.05, 0.04))
        self.aperture = rng.uniform(0.03, 0.12)

    def add(self, mesh, label, slot, matrix=None):
        """Puts a mesh into the scene, with its class, its material slot and its place."""
        thing = bpy.data.objects.new(f"{slot[0]}_{len(self.objects)}", mesh)
        bpy.context.scene.collection.objects.link(thing)
        thing.matrix_world = Matrix() if matrix is None else matrix
        thing.pass_index = label
        mesh.materials.append(None)
        thing["slot"] = f"{slot[0]}:{slot[1]}"
        self.objects.append(thing)

    # ---- products ----

    def make_products(self, count):
        """Pairs of kind and product, the tallest first (mostly), each made at the origin."""
        rng = self.rng
        family = weighted(rng, PRODUCT_WEIGHTS) if rng.random() < 0.25 else None
        products = []
        for i in range(count):
            kind = family or weighted(rng, PRODUCT_WEIGHTS)
            products.append((kind, PRODUCTS[kind](rng, i)))
        products.sort(key=lambda p: -p[1].height)
        if count > 2 and rng.random() < 0.5:
            products[0], products[1] = products[1], products[0]
        return products

    def place_products(self, products, podiums):
        """Stands the products around the middle, on podiums or a stage where the layout has them."""
        rng = self.rng
        looseness = rng.uniform(0.0, 0.35)
        first_height = products[0][1].height
        placed = []
        for i, (kind, product) in enumerate(products):
            podium_height, radius = 0.0, product.radius
            if podiums and not self.staged and rng.random() < 0.6:
                podium_height = rng.uniform(0.12, 0.8) * (1 if product.height < 1.4 else 0.4)
                radius = product.radius * rng.uniform(1.15, 1.5)
            x, y = self.find_place(i, len(products), product.height, first_height, radius, looseness)
            self.feet.append((x, y, radius, podium_height))
            if kind == "carton":
                yaw = rng.choice([rng.uniform(-0.15, 0.15), rng.uniform(0.3, 0.8), -rng.uniform(0.3, 0.8)])
                rng.random()  # Nothing uses this draw; seeds count on it.
            else:
                yaw = rng.uniform(-0.35, 0.35)
            if podium_height:
                if rng.random() < 0.65:
                    mesh = disc(radius, podium_height, 80)
                else:
                    side = radius * 1.75
                    mesh = moved(rounded_box(side, side, podium_height, 0.015), turn_z(yaw))
                self.add(mesh, TABLE, ("podium", i), move(x, y, 0))
            placed.append((product, x, y, podium_height, yaw))
        stage_height = self.add_stage() if self.staged else 0.0
        boxes = []
        for product, x, y, podium_height, yaw in placed:
            for part in product.parts:
                place = move(x, y, podium_height + stage_height) @ turn_z(yaw)
                self.add(part.mesh, part.label, part.slot, place)
            radius = product.radius
            foot = 0 if podiums else podium_height + stage_height
            top = podium_height + stage_height + product.height
            boxes.append((x - radius, x + radius, y - radius, y + radius, foot, top))
        boxes = np.array(boxes)
        self.low, self.high = boxes[:, [0, 2, 4]].min(0), boxes[:, [1, 3, 5]].max(0)

    def find_place(self, i, count, height, first_height, radius, looseness):
        """The best of 200 random places for product i: free, near the middle, hiding no other."""
        rng, feet = self.rng, self.feet
        best = None
        for _ in range(200):
            if i == 0:
                x, y = 0.0, rng.uniform(0, 0.2)
            else:
                x = rng.uniform(-2.2, 2.2)
                y = rng.uniform(-0.9, 0.55) * (1 if height < first_height * 0.7 else 0.5)
            if any(math.hypot(x - a, y - b) < radius + r + 0.03 for a, b, r, _ in feet):
                continue
            if any(y < b - 0.1 and abs(x - a) < 0.35 * (radius + r) for a, b, r, _ in feet):
                continue
            balance = abs(x - sum(foot[0] for foot in feet) * -0.25)
            pull = (0.9 if count > 2 and height < 1.3 else 0.45) * abs(x)
            overlap = sum(max(0, 0.9 * (radius + r) - abs(x - a)) * 0.3 for a, _, r, _ in feet)
            cost = balance + 0.5 * abs(y) + looseness * rng.random() * 3 + pull + overlap
            if best is None or cost < best[0]:
                best = (cost, x, y)
        if best is None:
            return feet[-1][0] + feet[-1][2] + radius + 0.05, 0
        return best[1:]

    def add_stage(self):
        """One low stage under all products; its height."""
        rng, feet = self.rng, self.feet
        height = rng.uniform(0.1, 0.5)
        x = sum(foot[0] for foot in feet) / len(feet)
        y = sum(foot[1] for foot in feet) / len(feet)
        reach = max(math.hypot(foot[0] - x, foot[1] - y) + foot[2] for foot in feet)
        self.stage_radius = reach * rng.uniform(1.04, 1.25)
        if rng.random() < 0.7:
            mesh = disc(self.stage_radius, height, 128)
        else:
            mesh = rounded_box(self.stage_radius * 2, self.stage_radius * 1.8, height, 0.015)
        self.add(mesh, TABLE, ("podium", 0), move(x, y, 0))
        return height

    # ---- props and plants ----

    def free_place(self, radius, tall):
        """A free place (x, y) on the table, behind the products for something tall; none after 60 tries."""
        rng = self.rng
        for _ in range(60):
            x = self.center_x + rng.uniform(-0.5, 0.5) * (self.width + 1.9)
            y = rng.uniform(-1.1, 1.1)
            if tall and y < 0.1:
                y = rng.uniform(0.1, 1.1)
            if any(math.hypot(x - a, y - b) <= radius + r + 0.02 for a, b, r, _ in self.feet):
                continue
            if self.staged and math.hypot(x - self.center_x, y) < self.stage_radius + radius:
                continue
            return x, y
        return None

    def place_props(self):
        """One to four props on the table, where there is room."""
        rng = self.rng
        for i in range(rng.choice([1, 1, 2, 3, 4])):
            parts, radius, height = props.prop(rng, i)
            place = self.free_place(radius, height > 0.7)
            if place is None or height > self.height * 0.8:
                continue
            self.feet.append((*place, radius, 0))
            matrix = move(*place, 0.0) @ turn_z(rng.uniform(-math.pi, math.pi))
            for part in parts:
                self.add(part.mesh, part.label, part.slot, matrix)

    def place_plants(self):
        """Sprigs or leaves: standing behind, lying in front, in a vase or reaching in from an upper corner.

        A sprig's leaves and its stem draw a place each, a little apart: seeds count on it.
        """
        rng, width, height = self.rng, self.width, self.height
        how = weighted(rng, {"standing": 3, "lying": 3, "vase": 1.6, "corner": 2})
        kind = rng.choice(["eucalyptus", "willow", "fern", "laurel"])
        side = rng.choice([-1, 1])
        if how == "standing":
            x = self.center_x + side * rng.uniform(0.1, 0.6) * (width / 2 + 0.6)
            y = self.high[1] + rng.uniform(0.35, 0.8)
            for _ in range(rng.randint(1, 3)):
                if rng.random() < 0.75:
                    plant = plants.sprig(rng, rng.uniform(0.9, 1.5) * max(1.1, height), kind)
                else:
                    plant = plants.large_leaves(rng)
                for mesh, material in plant:
                    place = move(x + rng.uniform(-0.3, 0.3), y, -0.05) @ turn_y(side * rng.uniform(-0.1, 0.5))
                    self.add(mesh, PLANT, (material, 0), place)
        elif how == "lying":
            for _ in range(rng.randint(1, 2)):
                x = self.center_x + side * (width / 2) * rng.uniform(0.3, 1.1)
                y = self.low[1] - rng.uniform(0.15, 0.6)
                for mesh, material in plants.sprig(rng, rng.uniform(1.0, 1.7), kind, 0.3):
                    yaw = rng.uniform(-0.5, 0.5) + (0 if side > 0 else math.pi)
                    lie_down = turn_y(math.pi / 2 - 0.04)
                    mesh.transform(move(x - side * 0.5, y, 0.16) @ turn_z(yaw) @ lie_down)
                    settle(mesh)
                    self.add(mesh, PLANT, (material, 0))
        elif how == "vase":
            vase_radius, vase_height = rng.uniform(0.2, 0.34), rng.uniform(0.5, 1.0)
            place = self.free_place(vase_radius, True)
            if place is None:
                return
            self.add(props.vase(vase_radius, vase_height), PROP, ("vase", 0), move(*place, 0))
            for _ in range(rng.randint(1, 4)):
                for mesh, material in plants.sprig(rng, rng.uniform(0.7, 1.3) * max(height * 0.8, 1), kind):
                    lean = turn_x(rng.uniform(-0.3, 0.3)) @ turn_y(rng.uniform(-0.4, 0.4))
                    self.add(mesh, PLANT, (material, 0), move(*place, vase_height * 0.75) @ lean)
        else:
            for _ in range(rng.randint(1, 3)):
                if rng.random() < 0.7:
                    plant = plants.sprig(rng, rng.uniform(1.2, 2.0), kind)
                else:
                    plant = plants.large_leaves(rng)
                for mesh, material in plant:
                    x = self.center_x + side * (max(width / 2, height * 0.35) + rng.uniform(0.35, 0.9))
                    place = move(x, rng.uniform(0.3, 1.2), height * rng.uniform(0.75, 1.25))
                    lean = turn_y(-side * rng.uniform(0.9, 2.2))
                    self.add(mesh, PLANT, (material, 0), place @ lean @ turn_z(rng.uniform(0, 6)))

    # ---- surroundings ----

    def surround(self, has_curtain):
        """Table and backdrop; then a curtain, or sometimes a panel behind the products."""
        rng, back = self.rng, self.high[1]
        self.azimuth = rng.uniform(-0.38, 0.38)
        # The room turns with the camera, not all the way.
        turn = turn_z(self.azimuth * rng.uniform(0.6, 1.0))
        distance = rng.uniform(1.2, 4.5)
        wall = back + distance
        if self.surroundings == "cyc":
            r = rng.uniform(0.8, 2.5)
            curve = [
                (wall - r + r * math.sin(a), r - r * math.cos(a)) for a in np.linspace(0, math.pi / 2, 18)
            ]
            profile = [(-14, 0), (-6, 0), *curve, (wall, 16)]
            vertices = [(x, y, z) for y, z in profile for x in (-24, 24)]
            faces = [(2 * k, 2 * k + 1, 2 * k + 3, 2 * k + 2) for k in range(len(profile) - 1)]
            self.add(mesh_from(vertices, faces), BACKDROP, ("back", 0), turn)
        else:
            edge = wall
            if self.surroundings == "edge":
                edge = back + rng.uniform(0.35, 1.2)
                wall = edge + rng.uniform(0.3, 4.0)
            table = rounded_box(48, 14 + edge, 0.25, 0.015)
            self.add(moved(table, move(0, (edge - 14) / 2, -0.25)), TABLE, ("table", 0), turn)
            z0 = -8 if self.surroundings == "edge" else 0.0
            corners = [(-24, wall, z0), (24, wall, z0), (24, wall, 16), (-24, wall, 16)]
            self.add(mesh_from(corners, [(0, 1, 2, 3)], None, False), BACKDROP, ("back", 0), turn)
        panel = rng.random()
        if has_curtain:
            place = turn @ move(0, 0, -3 if self.surroundings == "edge" else 0.0)
            self.add(cloth.curtain(rng, wall - 0.35), CLOTH, ("cloth", 0), place)
        elif panel < 0.14 and self.surroundings != "edge":
            self.add_panel(distance)

    def add_panel(self, distance):
        """A disc or a board between the products and the backdrop, which counts as backdrop."""
        rng = self.rng
        radius = rng.uniform(0.55, 0.8) * max(self.width, self.height)
        x = self.center_x + rng.uniform(-0.4, 0.4)
        y = self.high[1] + min(distance * 0.6, rng.uniform(0.4, 1.2))
        half = 0.06
        if rng.random() < 0.5:
            points = [(0, -half), (radius, -half), (radius, half), (0, half)]
            mesh = moved(lathe(fillet(points, [0, 0.015, 0.015, 0]), 128), turn_x(math.pi / 2))
            z = radius * rng.uniform(0.75, 1.0)
        else:
            mesh = rounded_box(radius * 1.4, 2 * half, radius * 2.2, 0.015)
            z = 0
        self.add(mesh, BACKDROP, ("panel", 0), move(x, y, z))

    # ---- camera ----

    def aim(self, camera, width, height):
        """Sets a camera for a picture of width x height: the products' box fills the frame as drawn."""
        low, high = Vector(self.low), Vector(self.high)
        low.z = min(low.z, 0)
        target = (low + high) / 2
        camera.data.lens = self.focal_length
        camera.data.sensor_fit = "AUTO"
        camera.data.sensor_width = 36
        camera.data.clip_end = 200
        longer = max(width, height)
        # Tangents of half the angles of view.
        tan_x = 18 / self.focal_length * width / longer
        tan_y = 18 / self.focal_length * height / longer
        backward = Vector(
            (
                math.sin(self.azimuth) * math.cos(self.pitch),
                -math.cos(self.azimuth) * math.cos(self.pitch),
                math.sin(self.pitch),
            )
        )
        forward = -backward
        right = forward.cross(Vector((0, 0, 1))).normalized()
        up = right.cross(forward)
        corners = [
            Vector((x, y, z)) for x in (low.x, high.x) for y in (low.y, high.y) for z in (low.z, high.z)
        ]
        distance = 6.0
        for _ in range(12):
            eye = target + backward * distance
            xs, ys = [], []
            for corner in corners:
                depth = (corner - eye).dot(forward)
                xs.append((corner - eye).dot(right) / depth / tan_x)
                ys.append((corner - eye).dot(up) / depth / tan_y)
            extent_x, extent_y = (max(xs) - min(xs)) / 2, (max(ys) - min(ys)) / 2
            target = target + right * ((max(xs) + min(xs)) / 2 * tan_x * distance)
            target = target + up * ((max(ys) + min(ys)) / 2 * tan_y * distance)
            fill_x = self.fill * (1.08 if extent_x > 1.7 * extent_y else 1)
            distance *= max(extent_x / fill_x, extent_y / self.fill)
        target = target - right * (self.offset[0] * tan_x * distance)
        target = target - up * ((self.offset[1] - 0.03) * tan_y * distance)
        eye = target + backward * distance
        eye.z = max(eye.z, 0.12)
        camera.location = eye
        camera.rotation_euler = (target - eye).to_track_quat("-Z", "Y").to_euler()
        focus = Vector(((self.low[0] + self.high[0]) / 2, self.low[1] + 0.25, self.high[2] * 0.5))
        camera.data.dof.focus_distance = (focus - eye).length
        stop = self.focal_length / 1000 / (self.aperture * distance / 6)
        camera.data.dof.aperture_fstop = max(0.05, stop)


def disc(radius, height, segments):
    """The mesh of a round podium."""
    points = [(0, 0), (radius, 0), (radius, height), (0, height)]
    return lathe(fillet(points, [0, 0.01, 0.02, 0]), segments)


def settle(mesh):
    """Presses a lying plant onto the table: what would be below it comes to lie on it, the rest lower."""
    points = np.empty(len(mesh.vertices) * 3)
    mesh.vertices.foreach_get("co", points)
    points = points.reshape(-1, 3)
    z = points[:, 2]
    z = np.where(z < 0.02, 0.02 + 0.12 * (0.02 - z), z)
    points[:, 2] = 0.012 + (z - 0.02) * 0.75
    mesh.vertices.foreach_set("co", points.ravel())
    mesh.update()

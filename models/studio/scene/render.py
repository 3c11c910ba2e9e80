"""Renders layouts in looks: pictures, label maps and a table of what they are."""

import os
import tempfile
import time
from pathlib import Path

import bpy
import numpy as np
from PIL import Image

from .classes import CLASSES, classes_json
from .develop import develop
from .layout import Layout
from .lights import light
from .look import Look


class Renderer:
    """Cycles on the CPU, set up for pictures of width x height and `samples` paths a pixel at most."""

    def __init__(self, width, height, samples, threads, folder):
        self.width, self.height, self.samples = width, height, samples
        # Where Cycles leaves its picture for us.
        self.raw = Path(folder) / "raw.exr"
        clear()
        self.scene = scene = bpy.context.scene
        scene.render.engine = "CYCLES"
        scene.render.filepath = str(self.raw)
        scene.render.threads_mode = "FIXED"
        scene.render.threads = threads
        scene.render.resolution_x, scene.render.resolution_y = width, height
        scene.render.resolution_percentage = 100
        scene.render.image_settings.file_format = "OPEN_EXR"
        scene.render.image_settings.color_depth = "32"
        scene.render.image_settings.color_mode = "RGB"
        scene.render.image_settings.exr_codec = "NONE"
        scene.render.use_compositing = scene.render.use_sequencer = False
        cycles = scene.cycles
        cycles.device = "CPU"
        cycles.use_light_tree = False
        cycles.use_adaptive_sampling = True
        cycles.adaptive_threshold = 0.03
        cycles.adaptive_min_samples = 6
        cycles.diffuse_bounces = 2
        cycles.glossy_bounces = 2
        cycles.transmission_bounces = 5
        cycles.transparent_max_bounces = 6
        cycles.volume_bounces = 0
        cycles.caustics_reflective = cycles.caustics_refractive = False
        cycles.sample_clamp_indirect = 3.0
        cycles.blur_glossy = 1.0
        cycles.auto_scrambling_distance = False
        cycles.use_denoising = True
        cycles.denoiser = "OPENIMAGEDENOISE"
        cycles.denoising_input_passes = "RGB_ALBEDO_NORMAL"
        cycles.denoising_prefilter = "FAST"
        cycles.denoising_quality = "BALANCED"
        cycles.pixel_filter_type = "BLACKMAN_HARRIS"
        if scene.world is None:
            scene.world = bpy.data.worlds.new("world")
        scene.world.use_nodes = True
        scene.world.cycles.sampling_method = "NONE"
        self.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
        scene.collection.objects.link(self.camera)
        scene.camera = self.camera
        self.class_material = class_material()

    def lay_out(self, seed):
        """Clears the scene and sets a layout up in it."""
        clear(keep=self.camera)
        layout = Layout(seed)
        layout.aim(self.camera, self.width, self.height)
        return layout

    def labels(self):
        """The label map: the class that one ray through each pixel's centre meets, without depth of field."""
        scene, cycles = self.scene, self.scene.cycles
        scene.view_layers[0].material_override = self.class_material
        scene.world.node_tree.nodes.clear()
        self.camera.data.dof.use_dof = False
        cycles.samples = 1
        cycles.use_denoising = False
        cycles.filter_width = 0.01
        cycles.max_bounces = 0
        raw = self.render()[..., 0]
        labels = np.rint(raw).astype(np.uint8)
        if np.abs(raw - labels).max() >= 0.01 or labels.max() >= len(CLASSES):
            raise RuntimeError(f"the label map holds {raw.max()}, which is no class")
        return labels

    def picture(self, layout, look, seed, grain_seed):
        """The layout in the look, 8-bit sRGB. `seed` is that of the paths, `grain_seed` that of the grain."""
        scene, cycles = self.scene, self.scene.cycles
        scene.view_layers[0].material_override = None
        self.camera.data.dof.use_dof = True
        cycles.samples = self.samples
        cycles.use_denoising = True
        cycles.filter_width = 1.3
        cycles.max_bounces = 6
        cycles.seed = seed
        for thing in layout.objects:
            thing.data.materials[0] = look.material(thing["slot"])
        lamps, grade = light(look, layout)
        picture = develop(self.render(), grade, grain_seed)
        for thing in layout.objects:
            thing.data.materials[0] = None
        for thing in lamps:
            bpy.data.objects.remove(thing)
        return picture

    def render(self):
        """Linear light of the scene as it stands: rows from the top x columns x 3, float32."""
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(str(self.raw))
        image.colorspace_settings.name = "Non-Color"
        width, height = image.size
        pixels = np.empty(width * height * 4, np.float32)
        image.pixels.foreach_get(pixels)
        bpy.data.images.remove(image)
        return pixels.reshape(height, width, 4)[::-1, :, :3]


def class_material():
    """A material that shines with its object's pass index, the class."""
    material = bpy.data.materials.new("class")
    material.use_fake_user = True
    material.use_nodes = True
    material.cycles.emission_sampling = "NONE"
    tree = material.node_tree
    tree.nodes.clear()
    info = tree.nodes.new("ShaderNodeObjectInfo")
    emission = tree.nodes.new("ShaderNodeEmission")
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    emission.inputs["Color"].default_value = (1, 1, 1, 1)
    tree.links.new(info.outputs["Object Index"], emission.inputs["Strength"])
    tree.links.new(emission.outputs[0], output.inputs["Surface"])
    return material


def clear(keep=None):
    """Removes all objects but one, then what no object uses any more."""
    for thing in list(bpy.data.objects):
        if thing != keep:
            bpy.data.objects.remove(thing)
    for collection in (bpy.data.meshes, bpy.data.lights, bpy.data.materials, bpy.data.images):
        for data in list(collection):
            if not data.users and not data.use_fake_user:
                collection.remove(data)


def looks_of(layout, layouts, looks, others):
    """The looks that a layout is drawn in: those given, or its own and those of `others` more layouts."""
    if looks is not None:
        return looks
    at, count = layouts.index(layout), len(layouts)
    steps = [1 + i * (count - 1) // max(others, 1) for i in range(others)]
    return [layout] + [layouts[(at + step) % count] for step in steps]


def run(layouts, looks, others, size, samples, out, threads=1, part=(0, 1), until="", having=()):
    """Renders layouts (seeds) in looks (seeds, or None for its own and `others` more) into the folder `out`.

    Writes images/LAYOUT_LOOK.png, labels/LAYOUT_LOOK.png, classes.json and meta.csv. Pictures that are there
    already are left as they are, so a stopped run goes on where it was. `part` (k, n) takes every n-th layout
    from the k-th; no layout is begun after the UTC time `until` (HH:MM). Where `having` names classes, layouts
    that show none of them are left out.
    """
    width, height = size
    images, label_maps = out / "images", out / "labels"
    images.mkdir(parents=True, exist_ok=True)
    label_maps.mkdir(exist_ok=True)
    (out / "classes.json").write_text(classes_json())
    number, parts = part
    meta = out / (f"meta_{number}.csv" if parts > 1 else "meta.csv")
    if not meta.exists():
        meta.write_text("file,layout,look,mood,env,classes\n")
    print_size = 256 if max(width, height) < 600 else 768
    with tempfile.TemporaryDirectory() as folder:
        renderer = Renderer(width, height, samples, threads, folder)
        for seed in layouts[number::parts]:
            names = {look: f"{seed:06}_{look:06}.png" for look in looks_of(seed, layouts, looks, others)}
            names = {look: name for look, name in names.items() if not (images / name).exists()}
            if not names:
                continue
            if until and time.strftime("%H:%M", time.gmtime()) >= until:
                break
            layout = renderer.lay_out(seed)
            labels = renderer.labels()
            present = np.unique(labels)
            if having and not np.isin(having, present).any():
                continue
            present = " ".join(map(str, present))
            for look_seed, name in names.items():
                began = time.time()
                look = Look(look_seed, print_size)
                noise_seed = (seed * 31 + look_seed) % 100000
                picture = renderer.picture(layout, look, noise_seed, seed * 7 + look_seed)
                Image.fromarray(labels).save(label_maps / name)
                # Under another name first: a picture that is there is whole.
                Image.fromarray(picture).save(images / f".{name}")
                os.replace(images / f".{name}", images / name)
                with meta.open("a") as file:
                    place = layout.surroundings
                    file.write(f"{name},{seed},{look_seed},{look.mood},{place},{present}\n")
                print(f"{name}: {time.time() - began:.1f} s, {look.mood}, {layout.surroundings}", flush=True)

"""The material of each slot, set up from a look's palette and random draws."""

import bpy
import numpy as np

from . import prints
from .colors import mixed, oklch, scaled
from .draws import weighted
from .surfaces import (
    boards,
    concrete,
    glass,
    gloss,
    linen,
    marble,
    metal,
    paper,
    plain,
    plaster,
    slats,
    solid,
    surface,
    terrazzo,
    tile,
    two_tone,
    velvet,
    wood,
)

# ---- products ----


def body(look, rng, shader):
    """Plastic, ceramic, metal, glass, or a plastic that runs from one colour to another."""
    kinds = {
        "gloss": 3,
        "satin": 3,
        "matte": 2.2,
        "ceramic": 1.2,
        "metal": 1.1,
        "glass": 2.2,
        "frosted": 1.2,
        "amber": 1.0,
        "gradient": 1.0,
    }
    kind = weighted(rng, kinds)
    color = look.color(rng)
    if kind in ("gloss", "gradient"):
        solid(rng, shader, color, rng.uniform(0.06, 0.18), coat=rng.uniform(0, 1), bump=0.008)
    elif kind == "satin":
        solid(rng, shader, color, rng.uniform(0.25, 0.42), bump=0.02)
    elif kind == "matte":
        solid(rng, shader, color, rng.uniform(0.5, 0.8), bump=0.06)
    elif kind == "ceramic":
        solid(rng, shader, color, rng.uniform(0.3, 0.5), coat=0.9, bump=0.05)
        if rng.random() < 0.5:
            inputs = {"Vector": shader.coordinates(), "Scale": rng.uniform(20, 45)}
            speckles = shader.node("TexVoronoi", inputs).outputs["Distance"]
            shader.set({"Base Color": shader.ramp(speckles, [(0.10, scaled(color, 0.35)), (0.22, color)])})
    elif kind == "metal":
        solid(rng, shader, metal(rng), rng.uniform(0.12, 0.4), 1.0, bump=0.02)
    elif kind == "glass":
        glass(rng, shader, look.color(rng, contrast=False), rng.uniform(0.0, 0.06))
    elif kind == "frosted":
        glass(rng, shader, look.color(rng, contrast=False), rng.uniform(0.25, 0.45))
    elif kind == "amber":
        tints = [(0.55, 0.18, 0.02), (0.4, 0.12, 0.01), (0.05, 0.25, 0.08), (0.04, 0.1, 0.4)]
        glass(rng, shader, rng.choice(tints), rng.uniform(0, 0.08))
    if kind == "gradient":
        z = shader.axis(shader.texture("Generated"), 2)
        shader.set({"Base Color": shader.ramp(z, [(0.1, color), (0.9, look.color(rng))])})


def cap(look, rng, shader):
    """Plastic, metal or wood."""
    kind = weighted(rng, {"plastic": 4, "metal": 3, "wood": 1.3, "matte": 2})
    if kind == "metal":
        solid(rng, shader, metal(rng), rng.uniform(0.1, 0.38), 1.0, bump=0.01)
    elif kind == "wood":
        wood(rng, shader, 2.2, "Object")
    elif kind == "plastic":
        solid(rng, shader, look.color(rng), rng.uniform(0.08, 0.35), bump=0.008)
    else:
        solid(rng, shader, look.color(rng), rng.uniform(0.45, 0.75), bump=0.05)


def cork(look, rng, shader):
    """Cork."""
    solid(rng, shader, (0.5, 0.32, 0.17), 0.8, bump=0.4, variation=0.35, scale=14)


def image_texture(shader, pixels, extension="REPEAT"):
    """Colour of an image (rows from the top, 0..1 sRGB) at the surface's texture coordinates."""
    height, width = pixels.shape[:2]
    image = bpy.data.images.new("print", width, height)
    rgba = np.ones((height, width, 4), np.float32)
    rgba[..., :3] = pixels[::-1]
    image.pixels.foreach_set(rgba.ravel())
    node = shader.node("TexImage", {"Vector": shader.texture("UV")})
    node.image = image
    node.extension = extension
    return node.outputs[0]


def label_of(look, rng, shader, around):
    """A printed label of paper or foil; one that goes `around` a body has a wide print."""
    kind = weighted(rng, {"white": 3, "colored": 3, "dark": 1.3, "kraft": 1, "foil": 0.5})
    # All are drawn, whichever is used: seeds count on it.
    ground = {
        "white": oklch(rng.uniform(0.92, 0.98), rng.uniform(0, 0.02), rng.uniform(50, 100)),
        "colored": look.color(rng),
        "dark": oklch(rng.uniform(0.15, 0.28), rng.uniform(0, 0.04), rng.choice(look.hues)),
        "kraft": (0.42, 0.27, 0.15),
        "foil": metal(rng),
    }[kind]
    brightness = sum(ground) / 3
    if brightness > 0.22:
        ink = oklch(rng.uniform(0.12, 0.35), rng.uniform(0, 0.08), rng.choice(look.hues))
    else:
        ink = oklch(rng.uniform(0.88, 0.97), rng.uniform(0, 0.04), rng.choice(look.hues))
    accent = look.color(rng, contrast=False)
    if abs(sum(accent) / 3 - brightness) < 0.12:
        accent = mixed(accent, ink, 0.5)
    styles = {
        "stripes": 1.4,
        "blocks": 2,
        "dots": 0.8,
        "gradient": 1.2,
        "circle": 1.4,
        "waves": 1.2,
        "botanic": 1.1,
        "frame": 1.6,
        "triangles": 0.9,
        "plain": 1.6,
    }
    style = weighted(rng, styles)
    aspect = 3.2 if around else rng.uniform(0.75, 1.2)
    pixels = prints.draw(rng, aspect, look.print_size, prints.Inks(ground, ink, accent), style)
    shader.set(
        {
            "Base Color": image_texture(shader, pixels, "REPEAT" if around else "EXTEND"),
            "Roughness": rng.uniform(0.25, 0.7),
            "Metallic": 0.85 if kind == "foil" else 0.0,
            "Coat Weight": rng.choice([0, 0, 0.5]),
        }
    )
    shader.bump(shader.noise(shader.coordinates(), 60.0, 2.0), 0.03)


def label(look, rng, shader):
    """A sticker or a panel."""
    label_of(look, rng, shader, around=False)


def label_around(look, rng, shader):
    """A label that goes around a body."""
    label_of(look, rng, shader, around=True)


def carton_of(look, rng, shader, printed):
    """Kraft, coloured or white board; `printed` at times."""
    kind = weighted(rng, {"kraft": 1.2, "colored": 4, "white": 1.5})
    # The palette's colour is drawn in any case: seeds count on it.
    color = {"kraft": (0.4, 0.25, 0.13), "colored": look.color(rng), "white": oklch(0.94, 0.01, 80)}[kind]
    if rng.random() < 0.65 and printed:
        ink = oklch(0.2, 0.05, look.hue) if sum(color) / 3 > 0.2 else oklch(0.92, 0.03, look.hue)
        styles = {
            "stripes": 1.4,
            "blocks": 2,
            "dots": 1,
            "gradient": 1.2,
            "waves": 1.4,
            "triangles": 1.2,
            "frame": 1,
            "circle": 1,
        }
        style = weighted(rng, styles)
        inks = prints.Inks(color, ink, look.color(rng, contrast=False))
        shader.set(
            {"Base Color": image_texture(shader, prints.draw(rng, 0.75, look.print_size, inks, style))}
        )
    else:
        shader.set({"Base Color": color})
    shader.set({"Roughness": rng.uniform(0.3, 0.75), "Coat Weight": rng.choice([0, 0, 0.6])})
    shader.bump(shader.noise(shader.coordinates(), rng.uniform(20, 60), 4.0), 0.06)


def carton(look, rng, shader):
    """A carton's board."""
    carton_of(look, rng, shader, printed=True)


def carton_lid(look, rng, shader):
    """A carton lid's board, never printed."""
    carton_of(look, rng, shader, printed=False)


def cup(look, rng, shader):
    """Glazed or matte stoneware, in one colour, two or speckled."""
    color = look.color(rng)
    kind = rng.random()
    solid(rng, shader, color, rng.uniform(0.12, 0.55), coat=rng.choice([0, 0.8]), bump=0.04)
    if kind < 0.25:
        z = shader.axis(shader.texture("Generated"), 2)
        edge = rng.uniform(0.25, 0.7)
        shader.set({"Base Color": shader.ramp(z, [(edge - 0.01, look.color(rng)), (edge + 0.01, color)])})
    elif kind < 0.45:
        speckles = shader.noise(shader.coordinates(), 30.0, 2.0)
        shader.set({"Base Color": shader.ramp(speckles, [(0.32, scaled(color, 0.25)), (0.36, color)])})


def liquid(look, rng, shader):
    """Coffee, tea, milk coffee, green tea or milk."""
    drinks = [(0.03, 0.012, 0.005), (0.25, 0.1, 0.03), (0.5, 0.33, 0.18), (0.3, 0.32, 0.05), (0.75, 0.7, 0.6)]
    shader.set({"Base Color": rng.choice(drinks), "Roughness": 0.06})


# ---- cloth, plants, props ----


def cloth(look, rng, shader):
    """Woven cloth: plain, satin, checked or striped."""
    color = look.color(rng, contrast=rng.random() < 0.6)
    kind = weighted(rng, {"plain": 4, "satin": 1.5, "check": 1.2, "stripe": 1.2})
    uv = shader.texture("UV")

    def wave(direction, scale):
        inputs = {"Vector": uv, "Scale": scale, "Distortion": 0.6, "Detail": 1.0}
        return shader.node("TexWave", inputs, bands_direction=direction).outputs[1]

    satin = kind == "satin"
    shader.set(
        {
            "Base Color": color,
            "Roughness": 0.35 if satin else 0.85,
            "Sheen Weight": 0.5 if satin else 0.25,
        }
    )
    if kind in ("check", "stripe"):
        scale = rng.uniform(0.9, 2.4)
        band = shader.remap(wave("X", scale), 0, 1, 0.48, 0.52)
        if kind == "check":
            across = shader.remap(wave("Y", scale), 0, 1, 0.48, 0.52)
            band = shader.math("MULTIPLY", shader.math("ADD", band, across), 0.5)
        shader.set({"Base Color": shader.ramp(band, [(0, color), (1, oklch(0.93, 0.02, look.hue))])})
    weave = shader.math("MULTIPLY", wave("X", 26.0), wave("Y", 26.0))
    shader.bump(weave, 0.03 if satin else 0.25)


def leaf_color(look):
    """The one leaf colour of a look, and the random numbers after it."""
    rng = look.rng("leaf")
    kind = weighted(rng, {"green": 3, "dark": 2, "sage": 1.6, "dry": 1, "red": 0.4})
    # All are drawn, whichever is used: seeds count on it.
    color = {
        "green": oklch(rng.uniform(0.45, 0.6), 0.12, rng.uniform(120, 140)),
        "dark": oklch(rng.uniform(0.3, 0.4), 0.08, rng.uniform(130, 150)),
        "sage": oklch(rng.uniform(0.6, 0.72), 0.05, rng.uniform(130, 160)),
        "dry": oklch(rng.uniform(0.55, 0.75), 0.07, rng.uniform(65, 85)),
        "red": oklch(0.42, 0.1, 25),
    }[kind]
    return color, rng


def leaf(look, rng, shader):
    """A leaf, lighter along its middle."""
    color, rng = leaf_color(look)
    across = shader.axis(shader.coordinates("UV"), 1)
    from_middle = shader.math("ABSOLUTE", shader.math("SUBTRACT", across, 0.5))
    stops = [(0.0, mixed(color, (0.7, 0.75, 0.4), 0.35)), (0.06, color), (0.5, scaled(color, 0.75))]
    shader.set({"Base Color": shader.ramp(from_middle, stops), "Roughness": rng.uniform(0.3, 0.55)})
    shader.bump(shader.noise(shader.coordinates("UV", (14, 2, 1)), 4.0, 2.0), 0.2)


def stem(look, rng, shader):
    """A stem, browner than its leaves."""
    color, _ = leaf_color(look)
    shader.set({"Base Color": mixed(color, (0.15, 0.08, 0.03), 0.6), "Roughness": 0.6})


def stone(look, rng, shader):
    """A pebble, gray or brownish."""
    gray = oklch(rng.uniform(0.25, 0.85), 0.01, 70)
    brown = oklch(rng.uniform(0.4, 0.8), 0.04, rng.uniform(30, 80))
    color = rng.choice([gray, brown])
    vector = shader.coordinates()
    noise = shader.noise(vector, rng.uniform(4, 9), 8.0, 0.65, 0.6)
    stops = [(0.3, scaled(color, 0.6)), (0.55, color), (0.75, scaled(color, 1.3))]
    shader.set({"Base Color": shader.ramp(noise, stops), "Roughness": rng.uniform(0.5, 0.85)})
    shader.bump(shader.noise(vector, 18.0, 6.0, 0.65), rng.uniform(0.15, 0.5))


def citrus(look, rng, shader):
    """Orange, lemon, lime or grapefruit, one kind a look."""
    fruits = [(0.85, 0.28, 0.02), (0.87, 0.62, 0.05), (0.25, 0.42, 0.03), (0.8, 0.2, 0.08)]
    solid(rng, shader, look.rng("citrus").choice(fruits), 0.38, variation=0.1, bump=0)
    shader.bump(shader.noise(shader.coordinates(), 38.0, 1.0), 0.3)


def apple(look, rng, shader):
    """Apples and pears: red, green or yellow, one kind a look."""
    kinds = [
        ((0.5, 0.03, 0.02), (0.7, 0.4, 0.06)),
        ((0.3, 0.45, 0.06), (0.5, 0.6, 0.12)),
        ((0.65, 0.5, 0.08), (0.6, 0.25, 0.06)),
    ]
    low, high = look.rng("apple").choice(kinds)
    streaks = shader.noise(shader.coordinates("Object", (2, 2, 0.4)), 4.0, 5.0)
    color = shader.ramp(streaks, [(0.35, low), (0.7, high)])
    shader.set({"Base Color": color, "Roughness": 0.28, "Coat Weight": 0.3})


def twig(look, rng, shader):
    """A fruit's twig."""
    shader.set({"Base Color": (0.1, 0.06, 0.03), "Roughness": 0.8})


def geo(look, rng, shader):
    """Plain solids: plaster, metal, wood or lacquer."""
    kind = weighted(rng, {"plaster": 3, "metal": 1, "wood": 1.3, "gloss": 1})
    if kind == "wood":
        wood(rng, shader, 1.6, "Object")
    elif kind == "metal":
        solid(rng, shader, metal(rng), rng.uniform(0.08, 0.35), 1.0)
    else:
        solid(rng, shader, look.color(rng), 0.75 if kind == "plaster" else 0.15, bump=0.08)


def vase(look, rng, shader):
    """A vase's glazed or raw clay."""
    solid(rng, shader, look.color(rng), rng.uniform(0.15, 0.7), coat=rng.choice([0, 0.6]), bump=0.1)


# ---- surroundings ----


def backdrop(look, rng, shader):
    """The backdrop's surface."""
    weights = {
        plain: 3,
        paper: 2,
        concrete: 1.1,
        plaster: 1.3,
        tile: 0.8,
        slats: 0.6,
        two_tone: 1.2,
        velvet: 0.5,
        gloss: 0.35,
    }
    surface(look, rng, shader, look.back_color(), weights, wall=True)


def panel(look, rng, shader):
    """A panel before the backdrop, a little darker or lighter than it."""
    lightness = min(0.95, max(0.12, look.back_lightness + rng.choice([-0.25, -0.15, 0.15])))
    color = oklch(lightness, rng.uniform(*look.chroma), rng.choice(look.hues))
    surface(look, rng, shader, color, {plain: 3, paper: 1, concrete: 0.7, plaster: 1, gloss: 0.4}, wall=True)


def table(look, rng, shader):
    """The table's surface."""
    if look.table_like_back:
        color = look.back_color()
    else:
        color = oklch(look.table_lightness, look.back_chroma, rng.choice(look.hues))
    weights = {
        plain: 2,
        gloss: 1.3,
        paper: 1,
        boards: 2.6,
        marble: 1.8,
        concrete: 1.3,
        terrazzo: 0.8,
        tile: 0.6,
        linen: 0.9,
        velvet: 0.3,
    }
    surface(look, rng, shader, color, weights)


def podium(look, rng, shader):
    """A podium's or stage's surface."""
    lightness = min(0.95, max(0.15, look.back_lightness + rng.choice([-0.2, 0.12, 0])))
    color = oklch(lightness, rng.uniform(*look.chroma), rng.choice(look.hues))
    weights = {plain: 3, gloss: 1, boards: 1.2, marble: 1.5, concrete: 1.5, terrazzo: 0.8, plaster: 1}
    surface(look, rng, shader, color, weights)


# The material of a slot by the slot's name.
MATERIALS = {
    "body": body,
    "cap": cap,
    "cap2": cap,
    "cork": cork,
    "label": label,
    "labelw": label_around,
    "carton": carton,
    "carton2": carton_lid,
    "cup": cup,
    "liquid": liquid,
    "cloth": cloth,
    "leaf": leaf,
    "stem": stem,
    "stone": stone,
    "citrus": citrus,
    "apple": apple,
    "twig": twig,
    "geo": geo,
    "vase": vase,
    "back": backdrop,
    "panel": panel,
    "table": table,
    "podium": podium,
}

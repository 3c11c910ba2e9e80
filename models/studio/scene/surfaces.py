"""Surfaces that many materials are made of. Each sets a shader up from a look's palette and random draws."""

import math

from .colors import mixed, oklch, scaled
from .draws import weighted

# Gold, silver, steel, copper, gunmetal, brass.
METALS = [
    (0.95, 0.78, 0.42),
    (0.92, 0.92, 0.93),
    (0.86, 0.87, 0.9),
    (0.94, 0.66, 0.5),
    (0.18, 0.18, 0.19),
    (0.9, 0.74, 0.52),
]


def solid(
    rng, shader, color, roughness, metallic=0.0, coat=0.0, bump=0.03, variation=0.06, scale=6.0, kind="Object"
):
    """One colour with slight `variation` and unevenness, at a noise of `scale`."""
    vector = shader.coordinates(kind)
    noise = shader.noise(vector, scale * rng.uniform(0.6, 1.5), 4.0)
    stops = [(0.3, scaled(color, 1 - variation)), (0.7, scaled(color, 1 + variation))]
    shader.set(
        {
            "Base Color": shader.ramp(noise, stops),
            "Roughness": shader.remap(noise, max(0.02, roughness * 0.8), min(1, roughness * 1.25)),
            "Metallic": metallic,
            "Coat Weight": coat,
            "Coat Roughness": rng.uniform(0.02, 0.2),
        }
    )
    if bump:
        is_fine = rng.random() < 0.5
        shader.bump(shader.noise(vector, rng.uniform(40, 140), 2.0) if is_fine else noise, bump)


def metal(rng):
    """A metal's colour."""
    return rng.choice(METALS)


def glass(rng, shader, color, roughness):
    """Coloured glass. Shadow and diffuse rays pass it straight: quick, and with a light shadow."""
    tint = mixed((1, 1, 1), color, rng.uniform(0.35, 0.9))
    shader.set(
        {
            "Base Color": tint,
            "Roughness": roughness,
            "Transmission Weight": 1.0,
            "IOR": rng.uniform(1.3, 1.46),
        }
    )
    path = shader.node("LightPath")
    clear = shader.node("BsdfTransparent", {"Color": (*mixed(tint, (1, 1, 1), 0.25), 1)})
    straight = shader.math("MAXIMUM", path.outputs["Is Shadow Ray"], path.outputs["Is Diffuse Ray"])
    mix = shader.node("MixShader", {0: straight, 1: shader.principled.outputs[0], 2: clear.outputs[0]})
    shader.connect(mix.outputs[0], shader.output.inputs[0])


def wood(rng, shader, scale, kind):
    """Wood with its grain along x or y; in the world's coordinates at times as planks."""
    light = oklch(rng.uniform(0.3, 0.75), rng.uniform(0.04, 0.09), rng.uniform(45, 75))
    dark = scaled(light, rng.uniform(0.4, 0.7))
    along = rng.choice([0, 1])
    scales = [scale, scale, scale]
    scales[along] = scale * 0.09
    vector = shader.coordinates(kind, tuple(scales), (0, 0, rng.uniform(-0.06, 0.06)))
    grain = shader.noise(vector, rng.uniform(3, 6), 6.0, 0.6, rng.uniform(0.3, 1.5))
    fine = shader.noise(vector, 40.0, 3.0)
    height = shader.math("ADD", grain, shader.math("MULTIPLY", fine, 0.25))
    color = shader.ramp(height, [(0.42, dark), (0.58, mixed(dark, light, 0.6)), (0.72, light)])
    if kind == "World" and rng.random() < 0.5:
        width = rng.uniform(0.5, 1.1)
        across = shader.axis(shader.position(), 1 - along)
        in_plank = shader.math("FRACT", shader.math("DIVIDE", across, width))
        gap = shader.remap(in_plank, 0.0, 1.0, 0.0, 0.03)
        color = mix_colors(shader, gap, scaled(dark, 0.25), color)
    shader.set(
        {
            "Base Color": color,
            "Roughness": shader.remap(grain, rng.uniform(0.25, 0.5), rng.uniform(0.45, 0.75)),
            "Coat Weight": rng.choice([0, 0, 0.4]),
        }
    )
    shader.bump(height, rng.uniform(0.05, 0.3))


def mix_colors(shader, factor, color, other):
    """From a plain colour at factor 0 to the socket `other` at 1."""
    node = shader.node("Mix", data_type="RGBA")
    # Inputs 6 and 7 are A and B of a Mix node for colours, output 2 its result.
    shader.connect(factor, node.inputs[0])
    shader.connect((*color, 1), node.inputs[6])
    shader.connect(other, node.inputs[7])
    return node.outputs[2]


# ---- surfaces of tables and walls ----
# Each takes the look, random numbers, a shader, the colour, and whether the surface is a wall.


def plain(look, rng, shader, color, wall):
    """Paint."""
    roughness = rng.uniform(0.5, 0.9)
    solid(rng, shader, color, roughness, bump=0.02, variation=0.02, scale=1.0, kind="World")


def gloss(look, rng, shader, color, wall):
    """Lacquer."""
    roughness, coat = rng.uniform(0.05, 0.2), rng.uniform(0, 0.5)
    solid(rng, shader, color, roughness, bump=0, variation=0.02, kind="World", coat=coat)


def paper(look, rng, shader, color, wall):
    """A paper roll."""
    solid(rng, shader, color, 0.85, bump=0.08, variation=0.03, scale=2.0, kind="World")


def boards(look, rng, shader, color, wall):
    """Wood, of its own colours."""
    wood(rng, shader, rng.uniform(0.8, 1.6), "World")


def marble(look, rng, shader, color, wall):
    """White or black stone with thin veins."""
    vector = shader.coordinates("World", (1, 1, 1), (0.4, 0.3, rng.uniform(0, 3)))
    noise = shader.noise(vector, rng.uniform(0.6, 1.4), 7.0, 0.62, rng.uniform(0.3, 1.2))
    if rng.random() < 0.3:
        stone, vein = (0.035, 0.035, 0.04), (0.75, 0.72, 0.66)
    else:
        stone = mixed((0.86, 0.85, 0.83), color, rng.choice([0, 0, 0.5]))
        vein = scaled(mixed((0.35, 0.35, 0.37), color, 0.3), 0.8)
    # Veins are where the noise crosses its middle.
    from_vein = shader.math("ABSOLUTE", shader.math("SUBTRACT", noise, 0.5))
    stops = [
        (0, vein),
        (rng.uniform(0.004, 0.012), mixed(stone, vein, 0.4)),
        (rng.uniform(0.03, 0.09), stone),
    ]
    shader.set({"Base Color": shader.ramp(from_vein, stops), "Roughness": rng.uniform(0.08, 0.35)})


def concrete(look, rng, shader, color, wall):
    """Cloudy concrete, half gray."""
    vector = shader.coordinates("World")
    clouds = shader.noise(vector, rng.uniform(0.5, 1.4), 8.0, 0.65)
    gray = mixed(color, (0.4, 0.4, 0.4), rng.uniform(0.3, 0.9))
    stops = [(0.3, scaled(gray, 0.72)), (0.5, gray), (0.72, scaled(gray, 1.18))]
    shader.set({"Base Color": shader.ramp(clouds, stops), "Roughness": rng.uniform(0.55, 0.9)})
    shader.bump(shader.noise(vector, 9.0, 8.0, 0.7), rng.uniform(0.1, 0.35))


def plaster(look, rng, shader, color, wall):
    """Rough plaster."""
    vector = shader.coordinates("World")
    noise = shader.noise(vector, rng.uniform(1, 3), 5.0, 0.6, 0.5)
    stops = [(0.3, scaled(color, 0.88)), (0.7, scaled(color, 1.06))]
    shader.set({"Base Color": shader.ramp(noise, stops), "Roughness": 0.85})
    shader.bump(noise, rng.uniform(0.3, 0.9), 0.08)


def terrazzo(look, rng, shader, color, wall):
    """Chips of the palette's colours in a ground."""
    vector = shader.coordinates("World")
    scale = rng.uniform(4, 9)
    cells = shader.node("TexVoronoi", {"Vector": vector, "Scale": scale})
    of_cell = shader.node("SeparateColor", {0: cells.outputs["Color"]}).outputs[0]
    edges = shader.node("TexVoronoi", {"Vector": vector, "Scale": scale}, feature="DISTANCE_TO_EDGE")
    stops = [
        (0, look.color(rng)),
        (0.3, look.color(rng)),
        (0.31, look.color(rng)),
        (0.6, color),
        (1, color),
    ]
    chips = shader.ramp(of_cell, stops)
    inside = shader.remap(edges.outputs[0], 0, 1, 0.05, 0.07)
    color = mix_colors(shader, inside, color, chips)
    shader.set({"Base Color": color, "Roughness": rng.uniform(0.15, 0.5)})


def tile(look, rng, shader, color, wall):
    """Tiles with joints."""
    turn = (math.pi / 2, 0, 0) if wall else (0, 0, 0)
    inputs = {
        "Vector": shader.coordinates("World", (1, 1, 1), turn),
        "Color1": (*color, 1),
        "Color2": (*scaled(color, rng.uniform(0.85, 1)), 1),
        "Mortar": (*mixed(color, (0.7, 0.7, 0.7), 0.6), 1),
        "Scale": 1.0,
        "Mortar Size": rng.uniform(0.01, 0.025),
        "Brick Width": rng.uniform(0.6, 1.2),
        "Row Height": rng.uniform(0.4, 0.8),
    }
    bricks = shader.node("TexBrick", inputs)
    bricks.offset = rng.choice([0.0, 0.5])
    shader.set({"Base Color": bricks.outputs[0], "Roughness": rng.uniform(0.08, 0.4)})
    shader.bump(bricks.outputs[1], -0.4, 0.04)


def slats(look, rng, shader, color, wall):
    """Upright rounded slats."""
    wave = shader.math("MULTIPLY", shader.axis(shader.position(), 0), rng.uniform(6, 16))
    wave = shader.math("SINE", wave)
    shader.set({"Base Color": color, "Roughness": 0.6})
    shader.bump(wave, 1.0, 0.08)


def linen(look, rng, shader, color, wall):
    """Woven cloth."""
    vector = shader.coordinates("World")
    inputs = {"Vector": vector, "Scale": 22.0, "Distortion": 1.5, "Detail": 1.0}
    warp, weft = (shader.node("TexWave", inputs, bands_direction=axis).outputs[1] for axis in "XY")
    weave = shader.math("MULTIPLY", warp, weft)
    color = shader.ramp(weave, [(0, scaled(color, 0.8)), (0.6, color)])
    shader.set({"Base Color": color, "Roughness": 0.9, "Sheen Weight": 0.3})
    shader.bump(weave, 0.3)


def velvet(look, rng, shader, color, wall):
    """Velvet."""
    solid(rng, shader, scaled(color, 0.7), 0.9, bump=0.05, kind="World")
    shader.set({"Sheen Weight": 0.6})


def two_tone(look, rng, shader, color, wall):
    """Two colours above each other, with an edge or as a long gradient."""
    lightness = min(0.95, max(0.1, look.back_lightness + rng.choice([-0.25, 0.2])))
    other = oklch(lightness, look.back_chroma, rng.choice(look.hues))
    z = shader.axis(shader.position(), 2)
    middle = rng.uniform(0.6, 1.8)
    half = rng.choice([0.02, 1.5])
    factor = shader.remap(z, 0, 1, middle - half, middle + half)
    shader.set({"Base Color": shader.ramp(factor, [(0, color), (1, other)]), "Roughness": 0.8})


def surface(look, rng, shader, color, weights, wall=False):
    """One of the surfaces above, drawn by their weights."""
    weighted(rng, weights)(look, rng, shader, color, wall)

"""A short way to write Blender's material nodes down."""

import bpy


class Shader:
    """A material around a Principled BSDF. Where a node has an input, a socket or a plain value will do."""

    def __init__(self, name):
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.tree = self.material.node_tree
        self.principled = self.tree.nodes["Principled BSDF"]
        self.output = self.tree.nodes["Material Output"]

    def connect(self, value, socket):
        """Links a socket or writes a value into `socket`."""
        if isinstance(value, bpy.types.NodeSocket):
            self.tree.links.new(value, socket)
        else:
            socket.default_value = value

    def node(self, kind, inputs=None, **properties):
        """A node of type ShaderNode`kind` with inputs (by name or number) and properties set."""
        node = self.tree.nodes.new("ShaderNode" + kind)
        for name, value in properties.items():
            setattr(node, name, value)
        for key, value in (inputs or {}).items():
            self.connect(value, node.inputs[key])
        return node

    def set(self, inputs):
        """Sets inputs of the Principled BSDF by name; triples are colours."""
        for name, value in inputs.items():
            if isinstance(value, tuple) and len(value) == 3:
                value = (*value, 1)
            self.connect(value, self.principled.inputs[name])

    def position(self):
        """The place in the world."""
        return self.node("NewGeometry").outputs["Position"]

    def texture(self, kind):
        """Texture coordinates: "Generated" (0..1 over the object's box), "UV" or "Object"."""
        return self.node("TexCoord").outputs[kind]

    def coordinates(self, kind="Object", scale=(1, 1, 1), rotation=(0, 0, 0)):
        """Coordinates of a `texture` kind or of the "World", scaled and turned."""
        vector = self.position() if kind == "World" else self.texture(kind)
        return self.node("Mapping", {"Vector": vector, "Scale": scale, "Rotation": rotation}).outputs[0]

    def noise(self, vector, scale, detail=3.0, roughness=0.5, distortion=0.0):
        """Perlin noise, about 0.3 to 0.7."""
        inputs = {
            "Vector": vector,
            "Scale": scale,
            "Detail": detail,
            "Roughness": roughness,
            "Distortion": distortion,
        }
        return self.node("TexNoise", inputs).outputs["Fac"]

    def ramp(self, factor, stops):
        """A colour ramp through (position, colour)."""
        node = self.node("ValToRGB", {"Fac": factor})
        elements = node.color_ramp.elements
        while len(elements) < len(stops):
            elements.new(0.5)
        for element, (position, color) in zip(elements, stops, strict=True):
            element.position = position
            element.color = (*color, 1)
        return node.outputs[0]

    def remap(self, value, to_low, to_high, low=0.3, high=0.7):
        """`value` from low..high to to_low..to_high, clamped."""
        inputs = {"Value": value, "From Min": low, "From Max": high, "To Min": to_low, "To Max": to_high}
        return self.node("MapRange", inputs).outputs[0]

    def math(self, operation, a, b=None):
        """A math node's value."""
        inputs = {0: a} if b is None else {0: a, 1: b}
        return self.node("Math", inputs, operation=operation).outputs[0]

    def axis(self, vector, number):
        """Component 0, 1 or 2 of a vector."""
        return self.node("SeparateXYZ", {0: vector}).outputs[number]

    def bump(self, height, strength, distance=0.02):
        """Bumps the surface by a height."""
        inputs = {"Height": height, "Strength": strength, "Distance": distance}
        self.set({"Normal": self.node("Bump", inputs).outputs[0]})

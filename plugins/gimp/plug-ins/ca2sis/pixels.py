# SPDX-License-Identifier: MIT OR Apache-2.0
"""Pixels out of GIMP's buffers and back. babl converts profile, precision and gray; nothing is computed here."""

import array
import ctypes
import mmap
import operator
import sys

from gi.repository import Gegl, Gimp

import library

# Bytes of a pixel of the formats used here.
SIZES = {"R'G'B'A float": 16, "RGBA float": 16, "Y'A float": 8, "YA float": 8, "Y'A u8": 2, "R'G'B'A u8": 4, "R'G'B' u8": 3, "Y float": 4, "Y' u8": 1, "Y' u16": 2, "A u8": 1, "Y u8": 1}
CODES = {"R'G'B'A float": library.RGBA_F32, "RGBA float": library.RGBA_F32,
         "Y'A float": library.GRAY_ALPHA_F32, "YA float": library.GRAY_ALPHA_F32, "R'G'B'A u8": library.RGBA_U8, "Y float": library.GRAY_F32}


NO_ABYSS = Gegl.AbyssPolicy.NONE

# Each tile is read once: to keep many is to hold a large layer twice.
Gegl.config().set_property("tile-cache-size", 32 << 20)


class Rectangle(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_int), ("width", ctypes.c_int), ("height", ctypes.c_int)]


class Direct:
    """gegl_buffer_get() and gegl_buffer_set() on memory of our own. The introspected functions copy everything twice:
    a float layer of 24 megapixels then takes 2.4 times its 366 MiB."""

    def __init__(self):
        names = {"win32": ("libgegl-0.4-0.dll", "libbabl-0.1-0.dll"),
                 "darwin": ("libgegl-0.4.0.dylib", "libbabl-0.1.0.dylib")}
        gegl, babl = (ctypes.CDLL(n) for n in names.get(sys.platform, ("libgegl-0.4.so.0", "libbabl-0.1.so.0")))
        pointer = ctypes.c_void_p
        self.get = gegl.gegl_buffer_get
        self.get.argtypes = [pointer, ctypes.POINTER(Rectangle), ctypes.c_double, pointer, pointer, ctypes.c_int, ctypes.c_int]
        self.get.restype = None
        self.put = gegl.gegl_buffer_set
        self.put.argtypes = [pointer, ctypes.POINTER(Rectangle), ctypes.c_int, pointer, pointer, ctypes.c_int]
        self.put.restype = None
        self.native = gegl.gegl_buffer_get_format
        self.native.argtypes, self.native.restype = [pointer], pointer
        self.bytes_per_pixel = babl.babl_format_get_bytes_per_pixel
        self.bytes_per_pixel.argtypes, self.bytes_per_pixel.restype = [pointer], ctypes.c_int
        self.name = babl.babl_get_name
        self.name.argtypes, self.name.restype = [pointer], ctypes.c_char_p
        self.babl_format = babl.babl_format
        self.babl_format.argtypes, self.babl_format.restype = [ctypes.c_char_p], pointer
        self.in_space = babl.babl_format_with_space
        self.in_space.argtypes, self.in_space.restype = [ctypes.c_char_p, pointer], pointer
        self.space = babl.babl_format_get_space
        self.space.argtypes, self.space.restype = [pointer], pointer
        self.capsule = ctypes.pythonapi.PyCapsule_GetPointer
        self.capsule.argtypes, self.capsule.restype = [ctypes.py_object, ctypes.c_char_p], pointer

    def format(self, name):
        return self.babl_format(name.encode())

    def own_format(self, name, buffer):
        """The format in the buffer's own colour space, whatever its profile."""
        return self.in_space(name.encode(), self.space(self.native(self.pointer(buffer))))

    def pointer(self, buffer):
        return self.capsule(buffer.__gpointer__, None)


try:
    direct = Direct()
except (OSError, AttributeError):
    direct = None


def memory(size):
    """Zeroed memory that is given back to the system at once when it is dropped."""
    return mmap.mmap(-1, max(size, 1))


def get(buffer, x, y, width, height, format, scale=1.0, own=False):
    """Pixels of a buffer, from (x, y) in its coordinates times `scale`. Beyond its edges they are 0. `own`: not by way of sRGB, but in
    the buffer's own colour space, so that values that mean no colours stay as they are."""
    data = memory(width * height * SIZES[format])
    if direct:
        to = direct.own_format(format, buffer) if own else direct.format(format)
        direct.get(direct.pointer(buffer), ctypes.byref(Rectangle(x, y, width, height)), scale, to,
                   ctypes.addressof(ctypes.c_ubyte.from_buffer(data)), 0, NO_ABYSS)
    else:
        got = buffer.get(Gegl.Rectangle.new(x, y, width, height), scale, format, NO_ABYSS)
        data[:len(got)] = got
    return library.Pixels(data, width, height, CODES.get(format), format in ("RGBA float", "YA float"))


def color_format(layer):
    """The format in which a layer's pixels go to the library and come back with the same bits: gray or colour, display-encoded or
    linear, as they are stored. (32-bit integers and doubles have more digits than its floats.)"""
    precision = layer.get_image().get_precision().value_nick
    linear = precision.endswith("linear") and not precision.endswith("non-linear")
    gray = layer.is_gray()
    return ("YA float" if gray else "RGBA float") if linear else "Y'A float" if gray else "R'G'B'A float"


def get_stored(buffer, x, y, width, height):
    """The bytes of pixels as the layer stores them, and their format's name."""
    if direct:
        format = direct.native(direct.pointer(buffer))
        size = width * height * direct.bytes_per_pixel(format)
        data = memory(size)
        direct.get(direct.pointer(buffer), ctypes.byref(Rectangle(x, y, width, height)), 1.0, format,
                   ctypes.addressof(ctypes.c_ubyte.from_buffer(data)), 0, NO_ABYSS)
        return memoryview(data)[:size], direct.name(format)
    stored = buffer.get(Gegl.Rectangle.new(x, y, width, height), 1.0, None, NO_ABYSS)
    return memoryview(bytes(stored)), b"as stored"


def put(buffer, pixels, format, where=None):
    """Writes pixels to a buffer of their size; all of them, or where 8-bit pixels are not 0."""
    width, height, size = pixels.width, pixels.height, SIZES[format]
    if where is not None and direct:
        pointer, format, start = direct.pointer(buffer), direct.format(format), pixels.address()
        for y in range(height):
            for left, right in spans(where.data, y * width, width):
                direct.put(pointer, ctypes.byref(Rectangle(left, y, right - left, 1)), 0, format,
                           start + (y * width + left) * size, 0)
    elif direct:
        direct.put(direct.pointer(buffer), ctypes.byref(Rectangle(0, 0, width, height)), 0, direct.format(format),
                   pixels.address(), 0)
    else:
        buffer.set(Gegl.Rectangle.new(0, 0, width, height), format, pixels.data[:width * height * size])
    buffer.flush()


def spans(data, start, width):
    """From and to of each run of 255 in a row of 0 and 255."""
    at, end = start, start + width
    while (at := data.find(b"\xff", at, end)) >= 0:
        to = data.find(b"\0", at, end)
        to = end if to < 0 else to
        yield at - start, to - start
        at = to


def copy(buffer, to, width, height):
    """Copies stored pixels, bit for bit."""
    area = Gegl.Rectangle.new(0, 0, width, height)
    buffer.copy(area, NO_ABYSS, to, area)


def own(data, width, height, format):
    """Pixels of bytes made here; `format` is a CA2_* code."""
    kept = memory(len(data))
    kept[:len(data)] = data
    return library.Pixels(kept, width, height, format)


class Packed:
    """Pixels that are not needed for a while: of a mask, which is mostly of one value, little is left."""

    def __init__(self, pixels):
        import zlib
        self.data = zlib.compress(pixels.data, 1)
        self.of = pixels.width, pixels.height, pixels.format

    def unpacked(self):
        import zlib
        return own(zlib.decompress(self.data), *self.of)


class Mask:
    """A layer's mask times the selection, for a layer's rectangle: coverage from 0 to 1."""

    def __init__(self, layer):
        image = layer.get_image()
        self.size = layer.get_width(), layer.get_height()
        self.parts = []
        mask = layer.get_mask()
        if mask is not None and layer.get_apply_mask():
            self.parts.append((mask.get_buffer(), 0, 0))
        if not Gimp.Selection.is_empty(image):
            _found, x, y = layer.get_offsets()
            self.parts.append((image.get_selection().get_buffer(), x, y))

    def read(self, scale=1.0, size=None):
        """Its pixels, "Y float"; None where there is neither mask nor selection."""
        width, height = size or self.size
        read = [get(buffer, round(x * scale), round(y * scale), width, height, "Y float", scale) for buffer, x, y in self.parts]
        if len(read) == 2:
            first, second = (memoryview(pixels.data).cast("f") for pixels in read)
            step = 1 << 20
            for at in range(0, width * height, step):
                part = array.array("f", map(operator.mul, first[at:at + step], second[at:at + step]))
                first[at:at + len(part)] = memoryview(part)
        return read[0] if read else None


def touched(mask):
    """1 wherever a mask is above 0: what to hand over for a result that the mask has not composited yet."""
    # A float above 0 has bits in its last byte: the exponent's, however small it is.
    high = bytes(memoryview(mask.data)[3:4 * mask.width * mask.height:4])
    return own(high.translate(bytes([0]) + bytes([255]) * 255), mask.width, mask.height, library.GRAY_U8)


def is_black(pixels):
    """Whether 8-bit pixels are 0 everywhere."""
    return pixels.data.find(b"\xff") < 0

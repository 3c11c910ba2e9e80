"""Procedural product pictures with exact semantic label maps: the recipe of the studio data set.

A scene is a LAYOUT (geometry, arrangement, camera) in a LOOK (materials, prints, light), each from its own
seed. Blender and Cycles alone draw it; every shape, texture, print and tone curve is made here.
Run it with `python -m scene --help` from the folder that holds the package.

Random draws are part of the recipe: a seed's pictures stay the same only while every function draws the same
values in the same order. A draw that nothing uses any more is therefore kept, and says so.
"""

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""CA2-SIS for GIMP 3: restyles a layer class by class after a reference. Adapter of the library beside this file.

GIMP starts this file for each call, so that it imports little: the dialog and the library come when they are needed."""

import sys

import gi

gi.require_version("Gimp", "3.0")
from gi.repository import Gimp, GLib, GObject  # noqa: E402

from messages import Cancelled, Trouble, _, sentence  # noqa: E402

RESTYLE, LABEL = "plug-in-ca2sis-restyle", "plug-in-ca2sis-label"
PALETTE, SAVE_STYLE = "plug-in-ca2sis-palette", "plug-in-ca2sis-save-style"
RW = GObject.ParamFlags.READWRITE


def failed(procedure, text, status=Gimp.PDBStatusType.EXECUTION_ERROR):
    return procedure.new_return_values(status, GLib.Error(text))


def guarded(run):
    """A procedure whose failures are sentences, never tracebacks."""
    def call(procedure, *arguments):
        try:
            run(procedure, *arguments)
        except Cancelled:
            return procedure.new_return_values(Gimp.PDBStatusType.CANCEL, GLib.Error())
        except Exception as error:
            return failed(procedure, sentence(error))
        return procedure.new_return_values(Gimp.PDBStatusType.SUCCESS, GLib.Error())
    return call


def shown_progress(text):
    """GIMP's progress bar as a function of a number from 0 to 1."""
    Gimp.progress_init(text)

    def progress(done):
        Gimp.progress_update(done)
        return True
    return progress


@guarded
def restyle(procedure, run_mode, image, drawables, config, _data):
    import job
    if run_mode == Gimp.RunMode.INTERACTIVE:
        import dialog
        return dialog.restyle(procedure, config, image, drawables)
    settings = job.Settings(config)
    layer = job.the_photograph(job.the_layer(image, drawables), settings)
    repeat = run_mode == Gimp.RunMode.WITH_LAST_VALS
    if repeat:
        settings.recall(image)
    source = settings.source(repeat)
    work = job.Job(image, layer, settings, job.open_library())
    progress = shown_progress(_("Restyling"))
    work.gather(source, progress)
    work.run(progress)
    work.check_report()
    work.finish()
    settings.remember(config, source)
    if work.notes():
        Gimp.message(work.notes())
    if repeat:
        Gimp.displays_flush()


@guarded
def label(procedure, run_mode, image, drawables, config, _data):
    import job
    import labels
    import library
    import pixels
    layer = job.the_layer(image, drawables)
    file = config.get_property("model")
    model = job.open_library().open_model(file and file.get_path(), config.get_property("device"))
    interactive = run_mode == Gimp.RunMode.INTERACTIVE
    if interactive and not model.can_label():
        # Something to paint on, and the colours to paint with.
        empty = pixels.own(bytes(layer.get_width() * layer.get_height()), layer.get_width(), layer.get_height(), None)
        map = labels.Labels(empty, library.LABEL_U8)
        told = _("The model {} does not find labels by itself. The new layer is all {}: paint the other classes with the pencil, in "
                 "colours of the palette {}.").format(model.name, model.classes[0].name, labels.quoted(labels.palette_name(model)))
    else:
        map = labels.automatic(layer, model, labels.quoted(layer.get_name()), shown_progress(_("Labelling")))
        told = _("Correct the labels with the pencil, in colours of the palette {}.").format(
            labels.quoted(labels.palette_name(model)))
    labels.palette(model)
    labels.add_layer(image, layer, model, map)
    if interactive:
        Gimp.displays_flush()
        Gimp.message(told)


@guarded
def make_palette(procedure, config, _data):
    import job
    import labels
    file = config.get_property("model")
    model = job.open_library().open_model(file and file.get_path(), "cpu")
    labels.palette(model)
    if config.get_property("run-mode") == Gimp.RunMode.INTERACTIVE:
        Gimp.message(_("The palette {} has the colours of the classes. It is in the Palettes dialog.").format(
            labels.quoted(labels.palette_name(model))))


@guarded
def save_style(procedure, run_mode, image, drawables, config, _data):
    import job
    import styles
    layer = job.the_layer(image, drawables)
    file, model = config.get_property("file"), config.get_property("model")
    if not file:
        raise Trouble(_("There is no file to save the style in. Give one that ends with {}.").format(styles.ENDING))
    model = job.open_library().open_model(model and model.get_path(), config.get_property("device"))
    style = styles.Layer(layer, config.get_property("labels")).style(model, shown_progress(_("Reading the style")))
    path = file.get_path()
    style.save(path if path.endswith(styles.ENDING) else path + styles.ENDING)


class CA2SIS(Gimp.PlugIn):
    def do_set_i18n(self, _name):
        return True, "ca2sis", None

    def do_query_procedures(self):
        return [RESTYLE, LABEL, PALETTE, SAVE_STYLE]

    def do_create_procedure(self, name):
        return {RESTYLE: self.restyle_procedure, LABEL: self.label_procedure, PALETTE: self.palette_procedure,
                SAVE_STYLE: self.save_style_procedure}[name](name)

    def described(self, procedure, label, blurb, help_text):
        procedure.set_documentation(blurb, help_text, None)
        procedure.set_attribution("ca2sis", "ca2sis", "2026")
        if label:
            procedure.set_menu_label(label)
            procedure.add_menu_path("<Image>/Filters")
        return procedure

    def image_procedure(self, name, run):
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, run, None)
        # Also for indexed images and several layers: a sentence says more than a grey menu item.
        procedure.set_image_types("*")
        procedure.set_sensitivity_mask(Gimp.ProcedureSensitivityMask.DRAWABLE | Gimp.ProcedureSensitivityMask.DRAWABLES)
        return procedure

    def add_model(self, procedure):
        self.add_file(procedure, "model", _("Model"), _("Model file; none: the model inside ca2sis"))

    def add_device(self, procedure):
        self.add_choice(procedure, "device", _("Device"), _("What computes"), [
            ("auto", _("Automatic")), ("cpu", _("Processor")), ("cuda", _("NVIDIA GPU")), ("metal", _("Apple GPU"))])

    def label_procedure(self, name):
        procedure = self.described(
            self.image_procedure(name, label), _("CA2-SIS _Label this Layer"), _("Find what is where in a photograph, as a layer to "
                                                                                "correct by brush"),
            _("Adds a label layer in the colours of the model's classes above the layer, and the palette of these colours. In a gray "
              "image it is a group of layers named after classes."))
        self.add_model(procedure)
        self.add_device(procedure)
        return procedure

    def palette_procedure(self, name):
        procedure = Gimp.Procedure.new(self, name, Gimp.PDBProcType.PLUGIN, make_palette, None)
        self.described(procedure, _("CA2-SIS Class _Palette"), _("Make the palette of the classes' colours"),
                       _("To paint a class in a label layer is to pick its colour."))
        procedure.add_enum_argument("run-mode", _("Run mode"), _("The run mode"), Gimp.RunMode.__gtype__, Gimp.RunMode.NONINTERACTIVE, RW)
        self.add_model(procedure)
        return procedure

    def save_style_procedure(self, name):
        procedure = self.described(
            self.image_procedure(name, save_style), None, _("Save the look of a layer as a style file"),
            _("The style can be used as reference later, without its picture."))
        procedure.add_layer_argument("labels", _("Labels"), _("Label layer, or group of layers named after classes; none: found "
                                                              "automatically"), True, RW)
        self.add_file(procedure, "file", _("File"), _("Style file to write"))
        self.add_model(procedure)
        self.add_device(procedure)
        return procedure

    def restyle_procedure(self, name):
        procedure = self.described(
            self.image_procedure(name, restyle), _("CA2-SIS _Restyle…"), _("Give regions of a photograph the look of a reference picture, class by class"),
            _("Labels say what is where: a layer painted in the classes' colours, or a group whose layers are named after classes. "
              "The reference is a layer, a picture file or a style file, with labels of its own. The layer's mask times the selection "
              "bounds the change."))
        procedure.add_layer_argument("labels", _("Labels"), _("Label layer, or group of layers named after classes; none: found "
                                                              "automatically"), True, RW)
        procedure.add_layer_argument("reference", _("Reference"), _("Layer of any open image whose look is wanted"), True, RW)
        procedure.add_layer_argument("reference-labels", _("Reference labels"),
                                     _("Label layer or group of the reference layer; none: found automatically"), True, RW)
        self.add_file(procedure, "reference-file", _("Reference file"), _("Picture or style file whose look is wanted"))
        self.add_file(procedure, "reference-labels-file", _("Reference label file"),
                      _("Label map of the reference file; none: its own label layers, or found automatically"))
        procedure.add_layer_argument("target-labels", _("New shapes"), _("Label layer or group that says how the objects are to be "
                                                                         "shaped instead; none: as they are"), True, RW)
        procedure.add_double_argument("morph", _("Morph"), _("How far the shapes go to the new ones"), 0.0, 1.0, 1.0, RW)
        procedure.add_double_argument("strength", _("Strength"), _("How much of the reference's look"), 0.0, 1.0, 1.0, RW)
        procedure.add_string_argument("classes", _("Classes"), _("Classes to restyle with their strengths, such as body=0.5,cap; "
                                                                 "empty: all"), "", RW)
        procedure.add_double_argument("coupling", _("Coupling"), _("How far the change of light and cast colours on all other "
                                                                   "classes comes through"), 0.0, 1.0, 0.0, RW)
        self.add_choice(procedure, "method", _("Method"), _("Where the change comes from"), [
            ("network", _("Network")), ("statistics", _("Colour statistics"))])
        self.add_model(procedure)
        self.add_device(procedure)
        self.add_choice(procedure, "output", _("Output"), _("Where the result goes"), [
            ("new-layer", _("New layer")), ("in-place", _("In place"))])
        # What Repeat needs and GIMP does not keep.
        for hidden in ("style-key", "labels-name", "target-labels-name"):
            procedure.add_string_aux_argument(hidden, hidden, "", "", RW)
        return procedure

    def add_file(self, procedure, name, nick, blurb):
        procedure.add_file_argument(name, nick, blurb, Gimp.FileChooserAction.ANY, True, None, RW)

    def add_choice(self, procedure, name, nick, blurb, entries):
        choice = Gimp.Choice.new()
        for id, (nickname, label) in enumerate(entries):
            choice.add(nickname, id, label, "")
        procedure.add_choice_argument(name, nick, blurb, choice, entries[0][0], RW)


if __name__ == "__main__":
    Gimp.main(CA2SIS.__gtype__, sys.argv)

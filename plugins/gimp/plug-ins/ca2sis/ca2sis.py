#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""CA2-SIS for GIMP 3: restyles a layer class by class after a reference. Adapter of the library beside this file.

GIMP starts this file for each call, so that it imports little: the dialog and the library come when they are needed."""

import sys

import gi

gi.require_version("Gimp", "3.0")
from gi.repository import Gimp, GLib, GObject  # noqa: E402

from messages import Cancelled, N_, Trouble, _  # noqa: E402

RESTYLE, LABEL, PALETTE, SAVE_STYLE = "plug-in-ca2sis-restyle", "plug-in-ca2sis-label", "plug-in-ca2sis-palette", "plug-in-ca2sis-save-style"
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
        except Trouble as trouble:
            return failed(procedure, str(trouble))
        except MemoryError:
            return failed(procedure, _("There is not enough memory for this layer. Close other images, or crop the layer."))
        except Exception as error:
            import traceback
            traceback.print_exc()
            return failed(procedure, _("The plug-in has a defect: {}. Nothing has been changed. Please report it with what GIMP "
                                       "printed to its terminal.").format(f"{type(error).__name__}: {error}"))
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
    layer = job.the_layer(image, drawables)
    settings = job.Settings(config)
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


class CA2SIS(Gimp.PlugIn):
    def do_set_i18n(self, _name):
        return True, "ca2sis", None

    def do_query_procedures(self):
        return [RESTYLE]

    def do_create_procedure(self, name):
        return self.restyle_procedure(name)

    def described(self, procedure, label, blurb, help_text):
        procedure.set_menu_label(label)
        procedure.set_documentation(blurb, help_text, None)
        procedure.set_attribution("ca2sis", "ca2sis", "2026")
        procedure.add_menu_path("<Image>/Filters")
        return procedure

    def restyle_procedure(self, name):
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, restyle, None)
        # Also for indexed images and several layers: a sentence says more than a grey menu item.
        procedure.set_image_types("*")
        procedure.set_sensitivity_mask(Gimp.ProcedureSensitivityMask.DRAWABLE | Gimp.ProcedureSensitivityMask.DRAWABLES)
        self.described(
            procedure, _("CA2-SIS _Restyle…"), _("Give regions of a photograph the look of a reference picture, class by class"),
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
        self.add_file(procedure, "model", _("Model"), _("Model file; none: the model inside ca2sis"))
        self.add_choice(procedure, "device", _("Device"), _("What computes"), [
            ("auto", _("Automatic")), ("cpu", _("Processor")), ("cuda", _("NVIDIA GPU")), ("metal", _("Apple GPU"))])
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

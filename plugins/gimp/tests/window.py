# SPDX-License-Identifier: MIT OR Apache-2.0
"""The plug-in in a GIMP with a window, driven by keys and the pointer as a user would. Runs inside the host, beside GIMP.

`remote()` asks GIMP what the image holds. Pictures of the screen go to $CA2SIS_TEST/shots."""

import ast
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback

W = os.environ["CA2SIS_TEST"]
REMOTE, SHOTS = os.path.join(W, "remote"), os.path.join(W, "shots")
DIALOG = "CA2-SIS Restyle|CA2-SIS リスタイル"
sent = 0


def x(*arguments, check=True):
    return subprocess.run(["xdotool", *map(str, arguments)], capture_output=True, text=True, check=check).stdout


def shot(name):
    os.makedirs(SHOTS, exist_ok=True)
    subprocess.run(["import", "-silent", "-window", "root", os.path.join(SHOTS, name + ".png")], check=True)


def until(what, condition, seconds=30, every=0.1):
    end = time.time() + seconds
    while time.time() < end:
        found = condition()
        if found:
            return found
        time.sleep(every)
    shot("waiting")
    raise AssertionError(f"{what}: not within {seconds} s (shots/waiting.png)")


def remote(code, seconds=60):
    """Runs code inside GIMP; the value of `result` or of an expression."""
    global sent
    try:
        ast.parse(code, mode="eval")
        code = "result = " + code
    except SyntaxError:
        pass
    with open(os.path.join(REMOTE, f"{sent}.new"), "w") as file:
        file.write(code)
    os.rename(os.path.join(REMOTE, f"{sent}.new"), os.path.join(REMOTE, f"{sent}.py"))
    path = os.path.join(REMOTE, f"{sent}.answer")
    until("GIMP's answer", lambda: os.path.exists(path), seconds, 0.02)
    sent += 1
    with open(path) as file:
        answer = file.read()
    if answer.startswith("FAILED"):
        raise AssertionError(answer)
    return ast.literal_eval(answer)


def windows(pattern):
    return x("search", "--onlyvisible", "--name", pattern, check=False).split()


def dialog():
    found = windows(DIALOG)
    return found[0] if found else None


def key(*names):
    for name in names:
        x("key", "--clearmodifiers", name)
        time.sleep(0.15)


def main_window():
    found = until("GIMP's window", lambda: windows("scene.xcf|restyle-scene|Untitled|– GIMP"))
    x("windowactivate", "--sync", found[-1], check=False)
    x("mousemove", 640, 420)
    time.sleep(0.3)


def search(text):
    """GIMP's action search, by its key."""
    main_window()
    key("slash")
    until("the action search", lambda: windows("Search Actions|検索"), 15)
    time.sleep(0.4)
    x("type", text)
    time.sleep(1.2)
    key("Return")


def open_dialog():
    search("CA2-SIS Rest")
    until("the dialog", dialog, 20, 0.02)
    x("windowactivate", "--sync", dialog(), check=False)
    time.sleep(2.5)


def closed(seconds=60):
    until("the end of the dialog", lambda: not dialog(), seconds)
    time.sleep(0.5)


def layers():
    return remote("[l.get_name() for l in image.get_layers()]")


SCENE = """
scene = Scene(alpha=False)
image = scene.image
scene.label_image.delete()
labels = label_layer(image, LABELS, "labels")
image.reorder_item(scene.photo, None, 0)
image.set_selected_layers([scene.photo])
other = Gimp.Image.new_with_precision(*SIZE, Gimp.ImageBaseType.RGB, Gimp.Precision.FLOAT_NON_LINEAR)
look = a_layer(other, "look")
write(look, "R'G'B'A float", REFERENCE)
label_layer(other, REFERENCE_LABELS, "its labels")
other.reorder_item(look, None, 0)
decoy = Gimp.Image.new(*SIZE, Gimp.ImageBaseType.RGB)
write(a_layer(decoy, "decoy"), "R'G'B' u8", painted(LABELS))
label_layer(decoy, LABELS, "labels")
decoy.reorder_item(decoy.get_layers()[1], None, 0)
image.clean_all()
display = Gimp.Display.new(image)
before = snapshot(image)
"""

tests = []


def test(function):
    tests.append(function)
    return function


@test
def the_dialog_opens_by_search_takes_a_reference_and_applies_it():
    open_dialog()
    # The rows of the box end with the other images' layers: [look, its labels] and [decoy, labels], in GIMP's order, of which the
    # first is chosen already.
    last = remote("[i for i in Gimp.get_images() if i != image][-1] == other")
    key("alt+o", "End", "Up", *([] if last else ["Up", "Up"]))
    time.sleep(2)
    shot("dialog")
    key("alt+y")
    closed()
    assert layers() == ["photo restyled", "photo", "labels"], layers()
    remote("scene.same(image.get_layers()[0], scene.direct(scene.floats(), LABELS, *SIZE, STYLE), 'the result')")
    shot("applied")


def looks():
    """A number for what the dialog's left half shows now."""
    found = dict(line.split("=") for line in x("getwindowgeometry", "--shell", dialog()).split())
    area = f"{400}x{380}+{int(found['X']) + 100}+{int(found['Y']) + 60}"
    made = subprocess.run(["import", "-silent", "-window", "root", "-crop", area, "-format", "%#", "info:"], capture_output=True, text=True,
                          check=True)
    return made.stdout.strip()


def dismiss():
    """Closes GIMP's messages."""
    time.sleep(0.3)
    for each in windows("GIMP Message|Plug-in crashed"):
        x("windowactivate", "--sync", each, check=False)
        key("Escape")


def plug_in_processes():
    plug_in = remote("PLUG_IN").encode() + b"/ca2sis.py"

    def running():
        for entry in os.listdir("/proc"):
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    if plug_in in file.read().split(b"\0"):
                        yield int(entry)
            except (OSError, ValueError):
                pass
    return running


@test
def the_dialog_is_there_within_a_second_of_a_plug_ins_own_start():
    # The least a plug-in takes: one that is started, and ends at once with a sentence.
    remote("start = __import__('time').time()\ncall('plug-in-ca2sis-save-style', image=image, drawables=[scene.photo])")
    least = remote("__import__('time').time() - start")
    dismiss()
    running, best = plug_in_processes(), None
    for _each in range(3):  # the best of three: other work on the machine counts too
        remote("image.set_selected_layers([scene.photo])")
        main_window()
        key("slash")
        until("the action search", lambda: windows("Search Actions|検索"), 15)
        time.sleep(0.4)
        x("type", "CA2-SIS Rest")
        time.sleep(1.2)
        key("Return")
        until("the plug-in", lambda: list(running()), 10, 0.005)
        start = time.time()
        until("the dialog", dialog, 20, 0.005)
        took = time.time() - start
        best = min(took, best or took)
        time.sleep(2)
        key("Escape")
        closed()
        if best - least <= 0.5:
            break
    print(f"    {best:.2f} s, of which a plug-in's start {least:.2f} s")
    assert best - least <= 1.0


@test
def undo_is_one_step():
    main_window()
    key("ctrl+z")
    time.sleep(1)
    remote("differences = snapshot(image)[0] == before[0]\nassert differences, 'one undo does not give the image back'")
    assert layers() == ["photo", "labels"]


@test
def a_wrong_choice_is_a_sentence_in_the_dialog_and_nothing_can_be_applied():
    main_window()
    remote("image.set_selected_layers([scene.photo])")
    open_dialog()
    fine = looks()
    key("alt+l", "End")  # a picture of another image as labels
    until("another picture", lambda: looks() != fine, 5)
    key("alt+y")
    time.sleep(1)
    shot("wrong-labels")
    assert dialog(), "it was applied"
    key("Escape")
    closed()
    assert layers() == ["photo", "labels"]


@test
def repeat_has_the_reference_also_when_its_image_is_closed():
    remote("other.delete()")
    main_window()
    key("ctrl+f")
    until("the repeated result", lambda: len(layers()) == 3)
    remote("scene.same(image.get_layers()[0], scene.direct(scene.floats(), LABELS, *SIZE, STYLE), 'repeated')")


@test
def settings_are_kept_and_the_last_look_too():
    main_window()
    key("ctrl+z")
    time.sleep(0.5)
    remote("image.set_selected_layers([scene.photo])")
    open_dialog()
    # The strength: its slider by its key, then half.
    key("alt+t")
    key("ctrl+a")
    x("type", "50")
    key("Tab")
    time.sleep(1)
    shot("half")
    key("alt+y")
    closed()
    remote("scene.same(image.get_layers()[0], scene.direct(scene.floats(), LABELS, *SIZE, STYLE, strength=0.5), 'half')")
    main_window()
    key("ctrl+z")
    remote("image.set_selected_layers([scene.photo])")
    open_dialog()
    key("alt+y")
    closed()
    remote("scene.same(image.get_layers()[0], scene.direct(scene.floats(), LABELS, *SIZE, STYLE, strength=0.5), 'again')")


@test
def the_preview_follows_the_controls():
    main_window()
    remote("image.set_selected_layers([scene.photo])")
    open_dialog()
    full = looks()

    def strength(value):
        key("alt+t")
        key("ctrl+a")
        x("type", value)
        key("Tab")
    strength("0")
    none = until("a preview of strength 0", lambda: looks() != full and looks(), 5)
    strength("60")
    some = until("a preview of strength 60", lambda: looks() not in (full, none) and looks(), 5)
    time.sleep(1)
    assert looks() == some, "the preview does not come to rest"
    strength("0")
    until("the preview of strength 0 again", lambda: looks() == none, 5)
    key("Escape")
    closed()


@test
def cancel_at_work_leaves_the_image_as_it_was_and_the_dialog_open():
    remote("""
big = Gimp.Image.new(4500, 3000, Gimp.ImageBaseType.RGB)
for name in ("labels", "content"):
    layer = Gimp.file_load_layer(NONINTERACTIVE, big, file(name + ".png"))
    big.insert_layer(layer, None, 0)
    Gimp.context_set_interpolation(Gimp.InterpolationType.NONE)
    layer.scale(4500, 3000, False)
    layer.set_offsets(0, 0)
    layer.set_name(name)
big.clean_all()
shown = Gimp.Display.new(big)
sizes = lambda: [(l.get_id(), l.get_width()) for l in big.get_layers()]
pixels_before, layers_before = read(big.get_layers()[0]), sizes()
""", 120)
    time.sleep(2)
    open_dialog()
    time.sleep(4)
    key("alt+y")
    time.sleep(1.0)
    shot("at-work")
    key("Escape")
    time.sleep(4)
    assert dialog(), "the dialog is gone"
    shot("stopped")
    remote("assert sizes() == layers_before and read(big.get_layers()[0]) == pixels_before, 'the image changed'")
    key("alt+y")
    closed(120)
    assert len(remote("sizes()")) == 3, "no result the second time"
    remote("shown.delete()")


@test
def a_float_layer_of_24_megapixels_takes_at_most_1200_megabytes_with_the_dialog_open():
    running, peak, going = plug_in_processes(), [0], [True]

    def watch():
        while going[0]:
            for process in running():
                try:
                    with open(f"/proc/{process}/status") as status:
                        peak[0] = max(peak[0], *(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM")))
                except (OSError, ValueError):
                    pass
            time.sleep(0.1)

    remote("""
huge = Gimp.Image.new_with_precision(6000, 4000, Gimp.ImageBaseType.RGB, Gimp.Precision.FLOAT_LINEAR)
for name in ("labels", "content"):
    layer = Gimp.file_load_layer(NONINTERACTIVE, huge, file(name + ".png"))
    huge.insert_layer(layer, None, 0)
    Gimp.context_set_interpolation(Gimp.InterpolationType.NONE)
    layer.scale(6000, 4000, False)
    layer.set_offsets(0, 0)
    layer.set_name(name)
layer.add_alpha()
huge.select_ellipse(Gimp.ChannelOps.REPLACE, 500, 300, 4500, 3000)
huge.clean_all()
shown = Gimp.Display.new(huge)
""", 180)
    time.sleep(3)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        open_dialog()
        time.sleep(6)
        opened = peak[0]
        key("alt+y")
        closed(240)
    finally:
        going[0] = False
        watcher.join()
    assert remote("len(huge.get_layers())", 60) == 3, "no result"
    remote("shown.delete()", 60)
    print(f"    {opened / 1e6:.0f} MB with the preview, {peak[0] / 1e6:.0f} MB at most")
    assert 0 < peak[0] <= 1.2e9


@test
def cancel_leaves_the_image_as_it_was():
    main_window()
    key("ctrl+z")
    remote("image.set_selected_layers([scene.photo])")
    remote("before = snapshot(image)")
    open_dialog()
    key("Escape")
    closed()
    remote("assert snapshot(image) == before, 'the image changed'")


@test
def a_killed_plug_in_leaves_the_image_as_it_was():
    """What GIMP's own Cancel does: it ends the process, here at several moments of the work."""
    running, caught = plug_in_processes(), 0
    # On a fast machine the work is done after a third of a second.
    for moment in (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.45, 0.6):
        remote("before = snapshot(image)[0]")
        main_window()
        key("ctrl+f")
        until("the plug-in", lambda: list(running()), 10, 0.005)
        time.sleep(moment)
        for process in running():
            os.kill(process, signal.SIGKILL)
            caught += 1
        time.sleep(1.5)
        dismiss()
        if not remote("snapshot(image)[0] == before"):
            assert len(layers()) == 3, "half a result"
            main_window()
            key("ctrl+z")
            time.sleep(0.5)
            assert remote("snapshot(image)[0] == before"), "what was there is not undone in one step"
    assert caught >= 3, f"the plug-in was caught at work only {caught} times"


@test
def the_look_is_saved_as_a_style_file():
    saved = os.path.join(W, "by-dialog.style")
    if os.path.exists(saved):
        os.remove(saved)
    main_window()
    remote("image.set_selected_layers([scene.photo])")
    open_dialog()
    key("alt+v")
    until("the file dialog", lambda: windows("Save Style"), 10)
    time.sleep(1)
    key("ctrl+a")
    x("type", "--delay", 30, saved)
    time.sleep(0.5)
    key("Return")
    until("the file", lambda: os.path.exists(saved), 10)
    key("Escape")
    closed()
    remote("equal(open(W + '/by-dialog.style', 'rb').read(), open(W + '/reference.style', 'rb').read(), 'the style')")


@test
def help_opens_its_page_in_the_browser():
    home, opened = os.environ["HOME"], os.path.join(W, "opened")
    applications = os.path.join(home, ".local/share/applications")
    os.makedirs(applications, exist_ok=True)
    with open(os.path.join(applications, "test-browser.desktop"), "w") as entry:
        entry.write(f"[Desktop Entry]\nType=Application\nName=Test\nExec=sh -c 'echo %u > {opened}'\nMimeType=text/html;\n")
    with open(os.path.join(applications, "mimeapps.list"), "w") as defaults:
        defaults.write("[Default Applications]\ntext/html=test-browser.desktop\n")
    main_window()
    remote("image.set_selected_layers([scene.photo])")
    open_dialog()
    pages = []
    for keys in ("alt+h", "F1"):
        if os.path.exists(opened):
            os.remove(opened)
        key(keys)
        until(f"the browser by {keys}", lambda: os.path.exists(opened) and os.path.getsize(opened), 15)
        with open(opened) as file:
            pages.append(file.read().strip().removeprefix("file://"))
    key("Escape")
    closed()
    page = pages[0]
    assert pages[1] == page, pages
    with open(page) as file:
        pictures = re.findall(r'(?:src|href)="(\.\./[^"]+)"', file.read())
    missing = [p for p in pictures if not os.path.exists(os.path.join(os.path.dirname(page), p))]
    assert page.endswith("help/en/index.html") and len(pictures) >= 4 and not missing, (page, pictures, missing)


def in_japanese():
    """Alone, in a GIMP in Japanese."""
    def restyle():
        return windows("^CA2-SIS リスタイル$")

    for down in (1, 0, 2):  # it is one of the three that the search finds
        main_window()
        key("slash")
        until("the action search", lambda: windows("^検索$|Search Actions"), 15)
        time.sleep(0.5)
        x("type", "CA2-SIS")
        time.sleep(1.5)
        shot("japanese-search")
        key(*["Down"] * down, "Return")
        time.sleep(6)
        if restyle():
            break
        dismiss()
    assert restyle(), "no dialog in Japanese"
    shot("japanese")
    key("Escape")
    until("the end of the dialog", lambda: not restyle(), 20)


def main():
    only = os.environ.get("CA2SIS_ONLY", "")
    good = bad = 0
    remote(SCENE, 120)
    for each in [in_japanese] if os.environ.get("LANGUAGE") == "ja" else tests:
        if only and only not in each.__name__:
            continue
        start = time.time()
        try:
            each()
            good += 1
            print(f"ok      {each.__name__} ({time.time() - start:.1f} s)", flush=True)
        except Exception:
            bad += 1
            print(f"FAILED  {each.__name__}", flush=True)
            traceback.print_exc(file=sys.stdout)
            shot("failed-" + each.__name__)
            if dialog():
                key("Escape")
    print(f"window: {good} passed, {bad} failed")
    with open(os.path.join(REMOTE, "end"), "w"):
        pass
    return 1 if bad or not good else 0


if __name__ == "__main__":
    sys.exit(main())

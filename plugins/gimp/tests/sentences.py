#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""The forms of sentences in said.py against the library's source: each is one that the library says, and each that a user of the
plug-in can meet is there. And what translated() makes of examples. Needs neither GIMP nor a build; last line: N passed, N failed."""

import os
import re
import sys
import types

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..", "..")
# Files of which every sentence can reach the user. Of the others only some.
WHOLE = ["src/style/file.rs", "src/model/file.rs", "src/model/metadata.rs", "src/nn/config.rs", "src/device.rs"]
# Texts there that are for programmers or go elsewhere, each with why.
NOT_SAID = {
    "CA2SIS_DEVICE", "model name", "/proc/cpuinfo",  # no sentences
    "device {}: choose auto, cpu, cuda, cuda:N, metal or metal:N",  # of the command line, and of the log
    "CUDA device {} cannot be used: {}",  # names and reasons in the list of devices, which the plug-in does not show
    "cannot be written: {}", "the style is of another model: its codes are {} x {}, this model's {} x {}",  # defects: styles keep their model
    "no class list: {}",  # of data sets
    "Failed to create metal resource", "Insufficient Memory",  # what drivers say
    "{}: {}", "{} and {} more", "{} {}: {}", "{} is {}", "{} is {}, not {}", "not known", ' and "drawn"',  # parts of technical lists
    # names of sizes in a model's description, the same in every language
    "number of labeler.widths", "number of stages", "stage {}: channels_in", "stage {}: channels_out", "stage {}: ff_factor",
    "stage {}: head_width", "stage {}: heads",
}


def literals(path):
    """The texts of a Rust file as their forms, without its tests and comments."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        source = file.read().split("#[cfg(test)]\nmod tests")[0].split("#[cfg(all(test")[0]
    source = re.sub(r"^\s*//.*$", "", source, flags=re.MULTILINE)
    for text in re.findall(r'"((?:[^"\\]|\\.)*)"', source, flags=re.DOTALL):
        text = re.sub(r"\\\n\s*", "", text).replace('\\"', '"')
        yield re.sub(r"\{[A-Za-z_0-9]*(?::[^}]*)?\}", "{}", text).replace("{}{}", "{}").replace("{{", "{").replace("}}", "}")


def every_form_is_one_that_the_library_says(said):
    found = set()
    for folder, _folders, names in os.walk(os.path.join(ROOT, "src")):
        for name in names:
            if name.endswith(".rs"):
                found.update(literals(os.path.relpath(os.path.join(folder, name), ROOT)))
    unsaid = [form for form in said.LIBRARY if form not in found]
    assert not unsaid, f"the library says no such thing: {unsaid}"


def every_sentence_that_a_user_can_meet_has_a_form(said):
    stale = NOT_SAID - {text for path in WHOLE for text in literals(path)}
    assert not stale, f"not in the library any more: {sorted(stale)}"
    unknown = {text for path in WHOLE for text in literals(path) if " " in text and re.search("[a-z]{2}", text)}
    unknown -= set(said.LIBRARY) | NOT_SAID
    assert not unknown, f"in said.py, or among NOT_SAID with a reason: {sorted(unknown)}"


def sentences_are_told_with_their_values(said):
    for text, told in {
            "/a/look.style: a style of another model (\"toy\"), with other weights: extract it again with the model in use (\"studio\")":
                "/a/look.style：別のモデル（\"toy\"）のスタイルです（重みが違います）。使用中のモデル（\"studio\"）で抽出し直してください",
            "/m.safetensors: No such file or directory (os error 2)":
                "/m.safetensors：そのようなファイルやフォルダーはありません（OS のエラー 2）",
            "device: this build of ca2sis has no Metal: build it with --features metal, or choose cpu":
                "デバイス：この ca2sis は Metal なしで作られています。--features metal を付けて作り直すか、プロセッサーを選んでください",
            "device: CUDA cannot be used: libcuda.so.1 does not load (libcuda.so.1: cannot open shared object file: No such file or "
            "directory): it comes with NVIDIA's driver":
                "デバイス：CUDA は使えません。libcuda.so.1 を読み込めません（libcuda.so.1：共有ライブラリーを開けません：そのようなファイルや"
                "フォルダーはありません）。NVIDIA のドライバーに付属しています",
            "/m: network sizes: resolution is 4, not 8 to 2048":
                "/m：ネットワークの大きさに誤りがあります：resolution が 4 です。8 から 2048 でなければなりません",
            "what nobody knows": "what nobody knows"}.items():
        assert said.translated(text) == told, said.translated(text)


def main():
    import gettext
    catalogue = gettext.translation("ca2sis", os.path.join(HERE, "..", "plug-ins", "ca2sis", "locale"), ["ja"])
    # messages.py asks GLib, which only GIMP sets up.
    sys.modules["messages"] = types.SimpleNamespace(_=catalogue.gettext)
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.path.join(HERE, "..", "plug-ins", "ca2sis"))
    import said
    good = bad = 0
    for test in (every_form_is_one_that_the_library_says, every_sentence_that_a_user_can_meet_has_a_form, sentences_are_told_with_their_values):
        try:
            test(said)
            good += 1
            print(f"ok      {test.__name__}")
        except AssertionError as error:
            bad += 1
            print(f"FAILED  {test.__name__}: {error}")
    print(f"{good} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

"""What images are keyed by, and how progress is read from a build."""

from __future__ import annotations

import shutil
import zipfile

import pytest

from carme_hub.demo import cache, images
from carme_hub.demo.run import BuildError


@pytest.fixture
def definitions(tmp_path):
    copy = tmp_path / "singularity"
    shutil.copytree(images.DEFINITIONS, copy)
    return copy


def test_key_tells_the_borders_of_its_parts():
    assert cache.key("ab", "c") != cache.key("a", "bc")
    assert cache.key("a", "b") != cache.key("b", "a")
    assert cache.key("a", b"b") == cache.key("a", "b")


def test_key_of_a_path_is_the_key_of_its_content(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("same")
    other.write_text("same")
    assert cache.key(one) == cache.key(other)
    other.write_text("different")
    assert cache.key(one) != cache.key(other)


def test_copied_reads_only_the_files_section():
    text = "%arguments\n  a=b\n%files\n  {{ a }} /a\n  # aside\n  one /x\n\n  dir/two /y\n%post\n  three /z\n"
    assert images.copied(text) == ["one", "dir/two"]


@pytest.mark.parametrize("name", sorted(images.IMAGES))
def test_every_file_a_definition_copies_is_there(name):
    text = (images.DEFINITIONS / images.IMAGES[name].definition).read_text()
    assert images.copied(text)
    for file in images.copied(text):
        assert (images.DEFINITIONS / file).exists(), file


@pytest.mark.parametrize(
    "file",
    [
        "system.def",
        "base.def",
        "files/code-server-session.sh",
        "files/carme_session/time_limit.py",
        "constraints.txt",
    ],
)
def test_changing_an_input_of_the_parent_changes_both_images(definitions, file):
    before = {name: images.content_key(name, definitions) for name in images.IMAGES}
    assert before == {name: images.content_key(name) for name in images.IMAGES}
    with (definitions / file).open("a") as handle:
        handle.write("\n# changed\n")
    after = {name: images.content_key(name, definitions) for name in images.IMAGES}
    assert after["base"] != before["base"]
    assert after["ml"] != before["ml"]


def test_changing_the_child_leaves_the_parent(definitions):
    before = {name: images.content_key(name, definitions) for name in images.IMAGES}
    with (definitions / "ml.def").open("a") as handle:
        handle.write("\n# changed\n")
    assert images.content_key("base", definitions) == before["base"]
    assert images.content_key("ml", definitions) != before["ml"]


def test_the_name_of_a_file_in_a_folder_counts_and_bytecode_does_not(definitions):
    before = images.content_key("base", definitions)
    folder = definitions / "files" / "carme_session"
    (folder / "__pycache__").mkdir(exist_ok=True)
    (folder / "__pycache__" / "new.pyc").write_bytes(b"compiled")
    assert images.content_key("base", definitions) == before
    (folder / "time_limit.py").rename(folder / "other.py")
    assert images.content_key("base", definitions) != before


def vsix(path, files):
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    return path


@pytest.fixture
def extensions(tmp_path, monkeypatch):
    folder = tmp_path / "extensions"
    folder.mkdir()
    monkeypatch.setenv(images.EXTENSIONS, str(folder))
    return folder


def test_image_extensions_of_the_site_are_part_of_the_key(extensions):
    none = images.content_key("base")
    (extensions / "notes.txt").write_text("not one")
    assert images.content_key("base") == none
    vsix(extensions / "a.vsix", {"extension/package.json": "{}"})
    one = images.content_key("base")
    assert len({none, one, images.content_key("ml")}) == 3
    vsix(extensions / "a.vsix", {"extension/package.json": '{"version": "2"}'})
    two = images.content_key("base")
    (extensions / "a.vsix").rename(extensions / "b.vsix")
    assert len({none, one, two, images.content_key("base")}) == 4


def test_image_without_extensions_has_the_same_key_whether_the_folder_is_named_or_not(
    extensions, monkeypatch
):
    named = images.content_key("base")
    monkeypatch.delenv(images.EXTENSIONS)
    assert images.content_key("base") == named
    extensions.rmdir()
    monkeypatch.setenv(images.EXTENSIONS, str(extensions))
    with pytest.raises(BuildError, match="no folder"):
        images.content_key("base")


@pytest.mark.parametrize(
    "files",
    [None, {}, {"package.json": "{}"}, {"extension/package.json": "{"}, {"extension/package.json/x": ""}],
)
def test_image_what_is_no_extension_is_said_before_anything_is_built(extensions, files):
    path = extensions / "bad.vsix"
    path.write_text("no zip") if files is None else vsix(path, files)
    with pytest.raises(BuildError, match=r"bad\.vsix is no extension"):
        images.extensions()


def test_another_code_server_makes_another_image(monkeypatch):
    before = images.content_key("base")
    monkeypatch.setattr(images.codeserver, "VERSION", "0.0.0")
    assert images.content_key("base") != before


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("carme: Debian's packages", "Debian's packages"),
        ("INFO:    Creating SIF file...", "packing"),
        ("Setting up libssl3:amd64 ...", None),
        ("", None),
    ],
)
def test_step(line, meaning):
    assert images.step(line) == meaning


def test_what_is_published_is_complete_or_not_there(tmp_path):
    target = tmp_path / "deep" / "thing"
    with pytest.raises(UnicodeEncodeError), cache.publish(target) as place:
        place.write_text("half a thing, and then \udc00", encoding="utf-8")
    assert not target.exists()
    with cache.publish(target) as place:
        place.write_text("whole")
    assert target.read_text() == "whole"
    with cache.publish(target) as place:
        assert place is None
    assert sorted(path.name for path in target.parent.iterdir()) == [".thing.lock", "thing"]


def test_pip_settings_reach_the_build_but_local_folders_do_not():
    listing = (
        ":env:.timeout='60'\nglobal.cert='/etc/x.crt'\ndownload.y='1'\n"
        "global.extra-index-url='file:///opt/a a.example/simple'\nglobal.index-url='pypi.example/simple'\n"
    )
    assert images.pip_settings(listing) == {
        "APPTAINERENV_PIP_TIMEOUT": "60",
        "APPTAINERENV_PIP_EXTRA_INDEX_URL": "a.example/simple",
        "APPTAINERENV_PIP_INDEX_URL": "pypi.example/simple",
    }

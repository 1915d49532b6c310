"""Each fault of a made set is found, and a sound set has none."""

import numpy as np
import pytest
from PIL import Image

from sagan.core.shapes import ImageShape
from sagan.doctor.images import change, examine_images, examine_overlap, fitting_shape
from tests.doctor.made import jpeg, looks_of, picture, signed, sound


def found(images, root, classes=None, size=32, crop="auto"):
    return {
        finding.kind: finding for finding in examine_images(looks_of(images, root, classes), ImageShape.of(size), crop)
    }


def wrong(findings):
    return {kind for kind, finding in findings.items() if finding.severity in ("warning", "stop")}


def test_a_sound_set_has_no_warning(tmp_path):
    assert wrong(found(sound(), tmp_path)) == set()


def transparent(image):
    image = image.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def with_border(image):
    image = image.copy()
    image.paste((0, 0, 0), (0, 0, 5, image.height))
    return image


def turned(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(image, 95, exif=exif)


FAULTS = {
    "unreadable": (lambda image: "it is torn", "warning"),
    "small": (lambda image: image.resize((20, 40)), "warning"),
    "plain": (lambda image: Image.new("RGB", image.size, (200, 10, 10)), "warning"),
    "grey": (lambda image: image.convert("L").convert("RGB"), "warning"),
    "transparent": (transparent, "warning"),
    "turned": (turned, "note"),
    "blocks": (lambda image: jpeg(image.resize((96, 96), Image.Resampling.BICUBIC), 5), "warning"),
    "borders": (with_border, "warning"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_a_few_images_is_found_in_these(tmp_path, kind):
    make, severity = FAULTS[kind]
    images = sound()
    for number in (7, 50):
        images[number] = make(images[number])
    finding = found(images, tmp_path)[kind]
    assert (finding.severity, finding.count) == (severity, 2)
    assert [name[:7] for name in finding.names] == ["007.png", "050.png"]
    assert kind == "unreadable" or finding.shown == ((7,), (50,))


@pytest.mark.parametrize("kind", ["small", "grey", "blocks", "borders"])
def test_one_in_many_is_a_note(tmp_path, kind):
    images = sound(205)
    images[7] = FAULTS[kind][0](images[7])
    assert found(images, tmp_path)[kind].severity == "note"


def test_nothing_that_can_be_read_stops(tmp_path):
    findings = found(["torn", "empty"], tmp_path)
    assert findings["unreadable"].severity == "stop"
    assert findings["unreadable"].names == ("000.png (torn)", "001.png (empty)")


def test_duplicates_are_grouped_and_counted(tmp_path):
    images = sound()
    images[10:22] = [images[3]] * 12
    images[30] = jpeg(images[2].resize((60, 60)), 80).convert("RGB")
    findings = found(images, tmp_path)
    assert findings["duplicates"].count == 12
    assert "13 times" in findings["duplicates"].text
    assert findings["near duplicates"].names == ("002.png = 030.png",)
    assert findings["near duplicates"].shown == ((2, 30),)


def test_a_thousand_copies_of_one_image_are_no_mark(tmp_path):
    assert "overlay" not in found([picture(0)] * 60 + sound(10), tmp_path)


@pytest.mark.parametrize("corner", [False, True])
def test_a_word_at_one_place_is_found(tmp_path, corner):
    sizes = [(160, 140), (180, 150), (140, 170)] if corner else [(96, 96)]
    images = [signed(picture(n, *sizes[n % len(sizes)]), corner) for n in range(40)]
    finding = found(images, tmp_path)["overlay"]
    assert finding.severity == "warning"
    assert "bottom right" in finding.text
    assert len(finding.pictures) == 1


def test_words_here_and_there_are_no_mark(tmp_path):
    images = [signed(picture(n, 96, 96)).transpose(Image.Transpose(n % 7)) for n in range(42)]
    assert "overlay" not in found(images, tmp_path)


def test_two_histories_are_told_apart_where_they_meet(tmp_path):
    images = sound(200, width=40, height=40)
    images[120:] = [image.resize((20, 20)).resize((40, 40), Image.Resampling.BICUBIC) for image in images[120:]]
    finding = found(images, tmp_path)["two histories"]
    assert "120.png" in finding.text
    assert finding.shown == ((119,), (120,))
    assert "two histories" not in found(images, tmp_path, ["a"] * 120 + ["b"] * 80)


def test_a_change_is_found_where_it_is_and_not_in_noise():
    random = np.random.default_rng(0)
    noise = random.normal(size=2000)
    assert change(noise) is None
    at, apart = change(noise + np.where(np.arange(2000) < 700, 0, 1.5))
    assert abs(at - 700) < 20
    assert 1.2 < apart < 1.8
    assert change(np.ones(500)) is None
    assert change(np.arange(15.0)) is None


def test_crops_say_what_they_lose(tmp_path):
    findings = found(sound(120, width=96, height=32), tmp_path)
    assert findings["crops"].severity == "warning"
    assert "keeps 33%" in findings["crops"].text
    assert "stretches it 3.00 times" in findings["crops"].text
    assert "--imsize 32x96" in findings["crops"].remedy
    assert findings["crops"].pictures
    assert not found(sound(), tmp_path)["crops"].pictures  # squares lose nothing


@pytest.mark.parametrize(
    ("size", "fitting"),
    [((48, 48), "32x32"), ((60, 48), "32x32"), ((96, 48), "32x64"), ((48, 90), "64x32"), ((20, 400), "32x32")],
)
def test_a_shape_of_most_images_is_one_that_networks_have(tmp_path, size, fitting):
    shape = fitting_shape(looks_of([Image.new("RGB", size, (n, 0, 0)) for n in range(3)], tmp_path), 32)
    assert str(shape) == fitting
    assert shape.doublings == 3


def test_a_shape_that_fits_loses_nothing(tmp_path):
    crops = found(sound(110, width=96, height=64), tmp_path, size="32x48")["crops"]
    assert (crops.severity, crops.pictures) == ("note", ())


def test_any_shape_has_its_pictures(tmp_path):
    images = [picture(n, *size) for n, size in enumerate([(40, 30), (3, 200), (300, 2), (64, 64)])]
    assert len(found(images, tmp_path, size="32x48")["crops"].pictures) == 4


def test_pixels_to_cut_out(tmp_path):
    findings = found([*sound(), picture(500, 20, 60)], tmp_path, size=16, crop="40")
    assert (findings["cut"].severity, findings["cut"].count) == ("warning", 1)
    assert found(sound(), tmp_path, crop="99")["cut"].severity == "stop"


def test_an_image_is_remarked_on_once(tmp_path, caplog):
    """Also where its picture is drawn."""
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 4000, (60, 40)).astype(np.uint16))
    findings = found([*sound(), deep], tmp_path)
    assert findings["remark"].names == ("120.png",)
    assert findings["crops"].pictures
    assert not caplog.records


def test_uneven_classes_are_a_warning(tmp_path):
    assert "classes" not in wrong(found(sound(), tmp_path, ["a", "b"] * 60))
    uneven = found(sound(), tmp_path, ["a"] * 115 + ["b"] * 5)["classes"]
    assert uneven.severity == "warning"
    assert uneven.names == ("a: 115", "b: 5")


def test_overlap_with_what_was_held_out(tmp_path):
    images, heldout = sound(), [picture(n) for n in range(1000, 1040)]
    heldout[3], heldout[5] = images[11], jpeg(images[12], 70).convert("RGB")
    looks, others = looks_of(images, tmp_path), looks_of(heldout, tmp_path)
    findings = {finding.kind: finding for finding in examine_overlap(looks, others, "heldout")}
    assert findings["overlap"].names == ("011.png = 003.png",)
    assert findings["near overlap"].names == ("012.png = 005.png",)
    apart = examine_overlap(looks, looks_of([picture(n) for n in range(2000, 2020)], tmp_path), "heldout")
    assert [finding.severity for finding in apart] == ["sound"]

import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from stereo_tr.datasets.files import (
    atomic,
    encode_pfm,
    read_disparity,
    read_image,
    writable_folder,
    write_disparity_png,
    write_files,
    write_pfm,
    write_png,
)

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (23, 31, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 2**16, (23, 31, 3), dtype=np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp"])
def test_colour_comes_back_as_rgb(tmp_path, suffix):
    path = tmp_path / f"view{suffix}"
    Image.fromarray(COLOUR).save(path)
    np.testing.assert_array_equal(read_image(path), COLOUR)


def test_jpeg_is_close(tmp_path):
    smooth = cv2.resize(COLOUR, (310, 230), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(smooth).save(tmp_path / "view.jpg", quality=98)
    difference = read_image(tmp_path / "view.jpg").astype(float) - smooth
    assert np.abs(difference).mean() < 4


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb_and_alpha_is_dropped(tmp_path, mode):
    image = Image.fromarray(COLOUR).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(COLOUR[..., 0]))
    path = tmp_path / ("view.tif" if mode == "CMYK" else "view.png")
    image.save(path)
    read = read_image(path)
    assert read.shape == (23, 31, 3)
    assert read.dtype == np.uint8
    without_alpha = image.convert("RGBA").convert("RGB") if mode == "RGBA" else image
    if mode != "CMYK":  # there is more than one way to print
        np.testing.assert_array_equal(read, np.asarray(without_alpha.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_stay_sixteen_bits(tmp_path, suffix, channels):
    stored = np.concatenate([DEEP, DEEP[..., :1]], -1)[..., :channels]
    path = tmp_path / f"view{suffix}"
    cv2.imwrite(str(path), stored)  # OpenCV writes blue first
    expected = np.repeat(stored, 3, -1) if channels == 1 else stored[..., 2::-1]
    np.testing.assert_array_equal(read_image(path), expected)


def test_float_pictures_span_one_or_255(tmp_path):
    values = DEEP[..., 0].astype(np.float32) / 65535
    for brightest in (1, 255):
        write_pfm(tmp_path / "view.pfm", values * np.float32(brightest))
        read = read_image(tmp_path / "view.pfm")
        assert read.dtype == np.uint16
        np.testing.assert_allclose(read[..., 1], DEEP[..., 0], atol=1)
    cv2.imwrite(str(tmp_path / "view.tif"), values)
    np.testing.assert_array_equal(read_image(tmp_path / "view.tif")[..., 2], DEEP[..., 0])
    write_pfm(tmp_path / "view.pfm", values * np.float32(1.5))
    with pytest.raises(ValueError, match=r"view.pfm: float values .* \[0, 1\] or \[0, 255\]"):
        read_image(tmp_path / "view.pfm")


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_tiff_is_read_as_it_is_stored(tmp_path, turn):
    stored = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    tags = Image.Exif()
    tags[274] = turn
    Image.fromarray(stored).save(tmp_path / "view.tif", exif=tags)
    assert np.array_equal(read_image(tmp_path / "view.tif"), stored)


@pytest.mark.parametrize("white", [63, 255, 1023, 65535])
def test_white_is_what_the_file_calls_white(tmp_path, white):
    values = np.array([[0, white, white // 3]], ">u2" if white > 255 else "u1")
    head = f"P5\n# 9 8 7\n3 1\n{white}\n".encode()
    (tmp_path / "view.pgm").write_bytes(head + values.tobytes())
    top = 65535 if white > 255 else 255
    assert read_image(tmp_path / "view.pgm")[0, :, 1].tolist() == [0, top, top // 3]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pfm_by_hand(tmp_path, order):
    """Two rows of three, bottom row first, in both byte orders; the scale is no factor."""
    path = tmp_path / "map.pfm"
    scale = b"-0.25" if order == "<" else b"0.25"
    pixels = struct.pack(f"{order}6f", 4, 5, float("inf"), 1, 2, 3)
    path.write_bytes(b"Pf\n3 2\n" + scale + b"\n" + pixels)
    disparity, valid = read_disparity(path)
    np.testing.assert_array_equal(disparity, [[1, 2, 3], [4, 5, 0]])
    np.testing.assert_array_equal(valid, [[True, True, True], [True, True, False]])


def test_pfm_agrees_with_opencv(tmp_path):
    values = RNG.normal(size=(7, 5)).astype(np.float32)
    write_pfm(tmp_path / "map.pfm", values)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "map.pfm"), -1), values)
    np.testing.assert_array_equal(read_disparity(tmp_path / "map.pfm")[0], values)


def test_disparity_png_is_kittis(tmp_path):
    disparity = np.float32([[0, 0.001, 1.5], [255.99, 256, 20.25]])
    valid = np.array([[True, True, True], [True, True, False]])
    write_disparity_png(tmp_path / "map.png", disparity, valid)
    stored = cv2.imread(str(tmp_path / "map.png"), cv2.IMREAD_UNCHANGED)
    # 0 says unknown, so a known 0 is stored as 1; 256 px don't fit
    np.testing.assert_array_equal(stored, [[1, 1, 384], [65533, 0, 0]])
    read, known = read_disparity(tmp_path / "map.png")
    np.testing.assert_array_equal(known, [[True, True, True], [True, False, False]])
    np.testing.assert_allclose(read[known], disparity[known], atol=1 / 256)


def test_a_view_is_no_disparity_map(tmp_path):
    write_png(tmp_path / "view.png", COLOUR)
    with pytest.raises(ValueError, match=r"view\.png: 8 bit, 3 channels; a disparity map is"):
        read_disparity(tmp_path / "view.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_truncated_pictures_are_refused(tmp_path, suffix, share, capfd):
    path = tmp_path / f"view{suffix}"
    Image.fromarray(COLOUR).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="view"):
        read_image(path)
    assert capfd.readouterr().err == ""  # OpenCV would talk there


def test_a_png_that_lacks_only_its_end_is_refused(tmp_path):
    write_png(tmp_path / "view.png", COLOUR)
    data = (tmp_path / "view.png").read_bytes()
    (tmp_path / "view.png").write_bytes(data[:-4])
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_image(tmp_path / "view.png")


def test_truncated_pfm_is_refused(tmp_path):
    data = encode_pfm(np.zeros((4, 6), np.float32))
    for end, message in ((-1, "95 bytes of pixels, expected 96"), (5, "not a PFM")):
        (tmp_path / "map.pfm").write_bytes(data[:end])
        with pytest.raises(ValueError, match=message):
            read_disparity(tmp_path / "map.pfm")


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.jpg").touch()
    for name in ("text.png", "empty.jpg"):
        with pytest.raises(ValueError, match=f"{name}: not a picture"):
            read_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"gone\.png: no such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(IsADirectoryError, match="expected a file"):
        read_image(tmp_path)


def test_files_appear_whole_or_not_at_all(tmp_path):
    old = tmp_path / "a.bin"
    old.write_bytes(b"old")
    with pytest.raises(OSError, match=r"cannot write .*missing/b.bin"):
        write_files({old: b"new", tmp_path / "missing" / "b.bin": b"new"})
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder: a folder stands in the way"):
        write_files({tmp_path / "folder": b"new", old: b"new"})
    (tmp_path / "folder").rmdir()
    with pytest.raises(KeyboardInterrupt), atomic(old) as temporary:
        temporary.write_bytes(b"half")
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".bin"
        raise KeyboardInterrupt
    assert old.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [old]
    write_files({old: b"new", tmp_path / "c.bin": b"too"})
    assert old.read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    assert writable_folder(tmp_path / "new" / "deep").is_dir()
    assert not list((tmp_path / "new" / "deep").iterdir())
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "under"):
        with pytest.raises(OSError, match=f"cannot write to folder {folder}: a file stands"):
            writable_folder(folder)
    with pytest.raises(OSError, match="cannot write to folder /proc/new"):
        writable_folder("/proc/new")

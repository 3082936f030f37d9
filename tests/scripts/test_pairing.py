import pytest

from stereo_tr.scripts.pairing import find_pairs


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(root, left, right):
    pairs = find_pairs(str(root / left), str(root / right))
    return [(str(p.left.relative_to(root)), str(p.right.relative_to(root)), p.name) for p in pairs]


def test_two_files(tmp_path):
    touch(tmp_path, "a/left.view.png", "b[1].jpg")
    assert found(tmp_path, "a/left.view.png", "b[1].jpg") == [
        ("a/left.view.png", "b[1].jpg", "left.view")
    ]


def test_folders_pair_in_sorted_order_and_hold_more_than_pictures(tmp_path):
    touch(tmp_path, "l/b.PNG", "l/a.png", "l/notes.txt", "l/.hidden.png", "r/2.tif", "r/1.tif")
    (tmp_path / "r" / "more.png").mkdir()
    assert found(tmp_path, "l", "r") == [
        ("l/a.png", "r/1.tif", "a"),
        ("l/b.PNG", "r/2.tif", "b"),
    ]


def test_globs_over_scenes_are_named_by_their_folders(tmp_path):
    touch(tmp_path, *(f"{scene}/im{view}.png" for scene in ("Art", "Books") for view in (0, 1)))
    assert found(tmp_path, "*/im0.png", "*/im1.png") == [
        ("Art/im0.png", "Art/im1.png", "Art_im0"),
        ("Books/im0.png", "Books/im1.png", "Books_im0"),
    ]
    touch(tmp_path, "x/one/v/l.png", "x/two/v/l.png", "x/one/v/r.png", "x/two/v/r.png")
    names = [name for *_, name in found(tmp_path, "x/**/l.png", "x/**/r.png")]
    assert names == ["one_v_l", "two_v_l"]


def test_equal_counts_are_not_enough_where_names_are_shared(tmp_path):
    touch(tmp_path, "image_2/1.png", "image_2/2.png", "image_3/1.png", "image_3/3.png")
    with pytest.raises(ValueError, match=r"2.png is in .*image_2 but has no partner in .*image_3"):
        find_pairs(str(tmp_path / "image_2"), str(tmp_path / "image_3"))
    touch(tmp_path, "A/im0.png", "B/im0.png", "A/im1.png", "C/im1.png")
    with pytest.raises(ValueError, match=r"B is in .* but has no partner"):
        find_pairs(str(tmp_path / "*/im0.png"), str(tmp_path / "*/im1.png"))


def test_what_does_not_pair_is_said(tmp_path):
    touch(tmp_path, "l/1.png", "l/2.png", "r/1.png", "twice/a.png", "twice/a.jpg", "two/x.png")
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "two/y.png")
    with pytest.raises(ValueError, match=r"l has 2 picture\(s\) and .*r 1"):
        find_pairs(str(tmp_path / "l"), str(tmp_path / "r"))
    with pytest.raises(FileNotFoundError, match="empty: no pictures in this folder"):
        find_pairs(str(tmp_path / "empty"), str(tmp_path / "r"))
    with pytest.raises(FileNotFoundError, match=r"\*.gif: no pictures match"):
        find_pairs(str(tmp_path / "*.gif"), str(tmp_path / "r"))
    with pytest.raises(ValueError, match="twice/a: several left views differ only in the suffix"):
        find_pairs(str(tmp_path / "twice"), str(tmp_path / "two" / "*"))

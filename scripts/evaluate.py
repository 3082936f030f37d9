"""Score a stereo model on pairs whose disparity is known, beside a classical method if asked for.

    stereo-tr evaluate --data pairs --root ../shared/data/middlebury2006 --peer sgbm
    stereo-tr evaluate --data pairs --root A --root B --weights cstr.pth.tar --json scores.json
    stereo-tr evaluate --data generated --count 50
    stereo-tr evaluate --data kitti2015 --root ~/data/kitti2015

Prints one row an image and the means, over all and over non-occluded pixels; what each number
means is `scores.PROTOCOL`, printed below the table. The model runs through `StereoMatcher`, so
what is scored is what `stereo-tr estimate` computes.

Tests  tests/scripts/test_evaluate.py
"""

import dataclasses
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
import tyro
from jaxtyping import Bool, Float32

import stereo_tr

# Absolute, so that `python scripts/evaluate.py` works as well.
from stereo_tr.datasets.files import atomic, writable_folder, write_png
from stereo_tr.datasets.generated import GeneratedScenes
from stereo_tr.datasets.naming import closest
from stereo_tr.datasets.pairs import Pairs
from stereo_tr.datasets.registry import DATASETS, open_dataset
from stereo_tr.datasets.sample import StereoSample
from stereo_tr.matcher import DEFAULT_MODEL, StereoMatcher
from stereo_tr.progress import progress
from stereo_tr.scripts import peers
from stereo_tr.scripts.command import run
from stereo_tr.scripts.error_pictures import error_strip
from stereo_tr.scripts.scores import PROTOCOL, Row, Scores, mean, score
from stereo_tr.stereo.scales import Scales
from stereo_tr.training_data import VALIDATION_SEED


@dataclass(frozen=True)
class Evaluate:
    """Settings of one evaluation."""

    data: str = "pairs"
    """pairs: folders of scenes, see --root; generated: the scenes a training is validated on; or a
    data set by name (kitti2015, sceneflow_test, ...; a wrong name says which are known)"""
    root: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """pairs: a folder of scenes, a scene, or a folder of such folders. A scene holds left.png,
    right.png, disp.pfm or disp.png, and nocc.png if known. A data set by name: its one folder"""
    model: str | None = None
    """name of the model (default: what the weights say, or the packaged one)"""
    weights: str | None = None
    """file of weights or a packaged name (default: packaged weights)"""
    device: str = "cpu"
    """where the model runs: cpu, cuda, ..."""
    peer: Literal["sgbm"] | None = None
    """sgbm: score OpenCV's StereoSGBM in the same run, in both modes, holes filled"""
    one_scale: bool = False
    """match each pair once, at its own size, whatever is best for the model; fill nothing"""
    peer_only: bool = False
    """score the peer and no model"""
    json: Path | None = None
    """write the same numbers to this file"""
    pictures: Path | None = None
    """folder for one picture an image and method: left, prediction, truth, error"""
    limit: int | None = None
    """use only the first scenes of each root"""
    count: int = 50
    """generated: how many scenes"""
    height: int = 384
    """generated: height of a scene in pixels"""
    width: int = 512
    """generated: width of a scene in pixels"""


class _Answer(NamedTuple):
    disparity: Float32[np.ndarray, "H W"]
    occluded: Bool[np.ndarray, "H W"]


class _Case(NamedTuple):
    """One image to be scored."""

    sample: StereoSample
    occlusion_known: bool
    group: str


Method = Callable[[np.ndarray, np.ndarray, StereoSample], _Answer]
"""left and right view, float32 RGB [H, W, 3] in [0, 1], and the truth, from which a peer may take
the range of disparities -> what it found"""


def evaluate(settings: Evaluate) -> Scores:
    """Score everything that `settings` ask for, and write the files that they name.

    Raises ValueError or OSError, naming the file, for what can't be read or written.
    """
    _check(settings)
    total, cases = _cases(settings)
    methods = _methods(settings)
    for folder in (settings.pictures, settings.json and settings.json.parent):
        if folder:
            writable_folder(folder)
    rows: list[Row] = []
    bar = progress(cases, total=total, label="scenes")
    for case in bar:
        for name, method in methods.items():
            row, disparity = _score_case(name, method, case)
            rows.append(row)
            if settings.pictures:
                picture = settings.pictures / f"{row.scene.replace('/', '_')}_{name}.png"
                write_png(picture, error_strip(disparity, case.sample))
        bar.note(f"{rows[-1].scene} {rows[-1].method} EPE {rows[-1].all['epe']:.2f}")
    scores = Scores(
        images=tuple(rows),
        means=tuple(_means(rows, list(methods))),
        settings=_written_down(settings),
        versions=_versions(),
        protocol=f"{PROTOCOL} {peers.PROTOCOL}" if settings.peer else PROTOCOL,
    )
    if settings.json:
        with atomic(settings.json) as path:
            path.write_text(scores.as_json() + "\n")
    return scores


def _check(settings: Evaluate) -> None:
    """Refuse what can't be done before anything takes time."""
    if settings.data == "pairs" and not settings.root:
        raise ValueError("--data pairs needs --root, a folder of scenes")
    if settings.data == "generated" and settings.root:
        raise ValueError("--root goes with --data pairs; generated scenes need no folder")
    names = ["pairs", "generated", *DATASETS]
    if settings.data not in names:
        raise ValueError(f"unknown data {settings.data!r}; {closest(settings.data, names)}")
    if settings.data in DATASETS and len(settings.root) != 1:
        raise ValueError(f"--data {settings.data} needs one --root, not {len(settings.root)}")
    if settings.peer_only and settings.peer is None:
        raise ValueError("--peer-only needs --peer sgbm")
    if settings.peer_only and (settings.model or settings.weights):
        raise ValueError("--peer-only scores no model; leave out --model and --weights")
    for name in ("limit", "count", "height", "width"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} {value}: give 1 or more")
    if settings.json and settings.json.is_dir():
        raise IsADirectoryError(f"--json {settings.json} is a folder; give a file")


def _methods(settings: Evaluate) -> dict[str, Method]:
    """The methods to score, by the name they have in the table."""
    methods: dict[str, Method] = {}
    if not settings.peer_only:
        matcher = StereoMatcher.from_pretrained(
            weights=settings.weights, model=settings.model, device=settings.device
        )
        if settings.one_scale:
            matcher.scales = Scales()
        named = Path(settings.weights).name if settings.weights else DEFAULT_MODEL
        methods[settings.model or named] = _run_model(matcher)
    if settings.peer == "sgbm":
        methods |= {mode: _run_peer(mode) for mode in peers.MODES}
    return methods


def _run_model(matcher: StereoMatcher) -> Method:
    def method(left: np.ndarray, right: np.ndarray, truth: StereoSample) -> _Answer:
        result = matcher(left, right)
        return _Answer(result.disparity, result.occlusion > 0.5)

    return method


def _run_peer(mode: str) -> Method:
    def method(left: np.ndarray, right: np.ndarray, truth: StereoSample) -> _Answer:
        largest = float(truth.disparity.max())
        return _Answer(*peers.match(left, right, largest, mode))

    return method


def _cases(settings: Evaluate) -> tuple[int, Iterator[_Case]]:
    """How many images there are, and the images, read one after the other."""
    if settings.data == "generated":
        scenes = GeneratedScenes(settings.height, settings.width, seed=VALIDATION_SEED)
        made = (_Case(scenes[index], True, "generated") for index in range(settings.count))
        return settings.count, made
    if settings.data != "pairs":
        published = open_dataset(settings.data, settings.root[0])
        if "disparity" not in published.required:
            raise ValueError(f"{settings.data} has no truth to score against")
        count = min(len(published), settings.limit or len(published))
        known = published.occlusion_known
        return count, (_Case(published[i], known(i), settings.data) for i in range(count))
    pairs = [Pairs(root) for root in settings.root]  # a wrong root is told before any is read
    names = [scene.name for scenes in pairs for scene in scenes.scenes]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"{twice} is in two of the roots; leave one out, or rename one of the folders"
        )
    counts = [min(len(scenes), settings.limit or len(scenes)) for scenes in pairs]
    read = (
        _Case(scenes[index], scene.non_occluded is not None, scene.group)
        for scenes, count in zip(pairs, counts, strict=True)
        for index, scene in enumerate(scenes.scenes[:count])
    )
    return sum(counts), read


def _score_case(name: str, method: Method, case: _Case) -> tuple[Row, np.ndarray]:
    """Run one method on one image; the clock covers nothing but the method."""
    views = (case.sample.left, case.sample.right)
    left, right = (view.permute(1, 2, 0).numpy() for view in views)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        try:
            answer = method(left, right, case.sample)
        except ValueError as error:  # it was given arrays, so it can't name the scene
            raise ValueError(f"{case.sample.name}: {error}") from error
        seconds = time.perf_counter() - start
    for warning in caught:
        warnings.warn(f"{case.sample.name}: {warning.message}", warning.category, stacklevel=2)
    row = score(*answer, case.sample, case.occlusion_known, name, case.group, seconds)
    return row, answer.disparity


def _means(rows: list[Row], methods: list[str]) -> Iterator[Row]:
    """For each method the mean over each group and, where there are several, over all images."""
    groups = list(dict.fromkeys(row.group for row in rows))
    for group in groups:
        for method in methods:
            chosen = [row for row in rows if (row.group, row.method) == (group, method)]
            yield mean(chosen, group)
    if len(groups) > 1:
        for method in methods:
            yield mean([row for row in rows if row.method == method], "all")


def _written_down(settings: Evaluate) -> dict[str, Any]:
    """The settings as JSON can hold them, with the peer's own."""
    plain = {
        name: [str(root) for root in value]
        if name == "root"
        else (str(value) if isinstance(value, Path) else value)
        for name, value in dataclasses.asdict(settings).items()
    }
    if settings.peer:
        plain["peer_settings"] = peers.SETTINGS
    return plain | {"threads": torch.get_num_threads(), "opencv_threads": cv2.getNumThreads()}


def _versions() -> dict[str, str]:
    return {
        "stereo_tr": stereo_tr.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()} {platform.system()}",
    }


def _print_scores(settings: Evaluate) -> None:
    scores = evaluate(settings)
    print(scores.as_table())
    print("\n" + scores.protocol.replace(". ", ".\n"))
    if settings.json:
        print(f"{settings.json} holds the same numbers")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `stereo-tr evaluate`."""
    run(Evaluate, _print_scores, "evaluate", __doc__.partition("\n")[0], arguments)


if __name__ == "__main__":
    main()

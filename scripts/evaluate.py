"""Score a stereo model on pairs whose disparity is known, beside a classical method if asked for.

    stereo-tr evaluate --data pairs --root ../shared/data/middlebury2006 --peer sgbm
    stereo-tr evaluate --data pairs --root A --root B --weights cstr.pth.tar --json scores.json
    stereo-tr evaluate --data generated --count 50
    stereo-tr evaluate --data kitti2015 --root ~/data/kitti2015 --protocol kitti2015
    stereo-tr evaluate --data pairs --root A --html report.html --markdown report.md
    stereo-tr evaluate --data pairs --root A --stages
    stereo-tr evaluate --data pairs --root A --lower-right 1 0 0
    torchrun --nproc-per-node 2 -m stereo_tr.scripts.evaluate --data pairs --root A

Prints one row an image and the means; what each number means is `scores.PROTOCOL`, printed below
the table. `--protocol` adds the numbers as a benchmark or a paper makes them. The model runs
through `StereoMatcher`, so what is scored is what `stereo-tr estimate` computes.

With torchrun each of n processes takes every n-th pair, and the first one gathers, prints and
writes: the numbers are those of one process with as many threads.

Tests  tests/scripts/test_evaluate.py
"""

import dataclasses
import json
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from stereo_tr.datasets.naming import closest
from stereo_tr.datasets.registry import DATASETS
from stereo_tr.datasets.sample import StereoSample
from stereo_tr.matcher import DEFAULT_MODEL, StereoMatcher
from stereo_tr.processes import Processes
from stereo_tr.progress import progress
from stereo_tr.scripts import evaluation_data, peers, protocols
from stereo_tr.scripts.command import run
from stereo_tr.scripts.error_pictures import error_strip
from stereo_tr.scripts.evaluation_data import Case, Cases
from stereo_tr.scripts.gallery import Gallery
from stereo_tr.scripts.report_page import report_page
from stereo_tr.scripts.score_tables import as_markdown, as_table
from stereo_tr.scripts.scores import PROTOCOL, Row, Scores, score, summarize
from stereo_tr.scripts.stages import STAGES, StageRecorder
from stereo_tr.stereo.scales import Scales


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
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """of products and convolutions; fp16 on CUDA only"""
    max_memory: str | None = None
    """what may be taken, like 2GB; the result is the same up to rounding"""
    peer: Literal["sgbm"] | None = None
    """sgbm: score OpenCV's StereoSGBM in the same run, in both modes, holes filled"""
    one_scale: bool = False
    """match each pair once, at its own size, whatever is best for the model; fill nothing"""
    thorough: bool = False
    """look at each pair enlarged as well, in almost three times the time"""
    peer_only: bool = False
    """score the peer and no model"""
    lower_right: tuple[float, float, float] | None = None
    """move the right views down first, as of cameras that aren't rectified: by how many rows in the
    centre, how many more at the right border, how many more at the lower one"""
    stages: bool = False
    """score every stage of cstr_small as well, a method each: where do errors come from?"""
    protocol: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """also the numbers of this benchmark or paper, as it makes them: kitti2012, kitti2015,
    middlebury_v3, eth3d, sceneflow, sceneflow_192, sttr, cstr, nerf_supervised"""
    list_protocols: bool = False
    """say what each protocol does, and do nothing else"""
    json: Path | None = None
    """write the same numbers to this file"""
    markdown: Path | None = None
    """write the tables to this file"""
    html: Path | None = None
    """write one page to this file: tables that sort, the worst scenes with their worst pixels"""
    html_scenes: int = 20
    """how many scenes the page shows"""
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


Method = Callable[[np.ndarray, np.ndarray, StereoSample], _Answer]
"""left and right view, float32 RGB [H, W, 3] in [0, 1], and the truth, from which a peer may take
the range of disparities -> what it found"""


def evaluate(settings: Evaluate) -> Scores | None:
    """Score everything that `settings` ask for, and write the files that they name.

    Returns None on all processes but the first. Raises ValueError or OSError, naming the file, for
    what can't be read or written.
    """
    _check(settings)
    cases = _cases(settings)
    with Processes(settings.device) as processes:
        methods = _methods(settings, processes.device)
        for path in (settings.json, settings.markdown, settings.html):
            if path:
                writable_folder(path.parent)
        if settings.pictures:
            writable_folder(settings.pictures)
        gallery = Gallery(settings.html_scenes if settings.html else 0)
        rows = _score_share(settings, cases, methods, gallery, processes)
        rows, gallery = _gathered(rows, gallery, processes)
        if not processes.first:
            return None
    means, pooled = summarize(rows, list(methods))
    scores = Scores(
        images=tuple(rows),
        means=tuple(means),
        pooled=tuple(pooled),
        published=tuple(protocols.apply(settings.protocol, rows)),
        settings=_written_down(settings),
        versions=_versions(),
        protocol=f"{PROTOCOL} {peers.PROTOCOL}" if settings.peer else PROTOCOL,
    )
    _write(settings, scores, gallery)
    return scores


def _score_share(
    settings: Evaluate,
    cases: Cases,
    methods: "Mapping[str, Method]",
    gallery: Gallery,
    processes: Processes,
) -> list[tuple[int, Row]]:
    """Score every n-th image with every method; the place of each image comes with its rows."""
    rows: list[tuple[int, Row]] = []
    mine = range(processes.rank, len(cases), processes.count)
    bar = progress(mine, label="scenes", hidden=not processes.first)
    for index in bar:
        case = cases[index]()
        if settings.lower_right:
            case = evaluation_data.lowered(case, settings.lower_right)
        found = {}
        for name, method in methods.items():
            row, found[name] = _score_case(name, method, case)
            rows.append((index, row))
            if settings.pictures:
                picture = settings.pictures / f"{row.scene.replace('/', '_')}_{name}.png"
                write_png(picture, error_strip(found[name], case.sample))
        gallery.offer(index, case.sample, found, rows[-len(methods)][1].all["epe"])
        bar.note(f"{rows[-1][1].scene} {rows[-1][1].method} EPE {rows[-1][1].all['epe']:.2f}")
    return rows


def _gathered(
    rows: list[tuple[int, Row]], gallery: Gallery, processes: Processes
) -> tuple[list[Row], Gallery]:
    """The rows of all processes in the order of the images, and the worst scenes of all."""
    texts = [json.dumps((index, dataclasses.asdict(row))) for index, row in rows]
    everyone = [json.loads(text) for text in processes.gather(texts)]
    everyone.sort(key=lambda each: each[0])  # stable: the methods of an image stay in order
    worst = Gallery(gallery.count)
    worst.add_texts(processes.gather(gallery.as_texts()))
    return [Row(**row) for _, row in everyone], worst


def _write(settings: Evaluate, scores: Scores, gallery: Gallery) -> None:
    """Write the files that were asked for, each whole or not at all."""
    contents: dict[Path | None, Callable[[], str]] = {
        settings.json: lambda: scores.as_json() + "\n",
        settings.markdown: lambda: as_markdown(scores) + "\n",
        settings.html: lambda: report_page(scores, gallery.scenes),
    }
    for file, content in contents.items():
        if file:
            with atomic(file) as path:
                path.write_text(content(), encoding="utf-8")


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
    if settings.peer_only and (settings.model or settings.weights or settings.stages):
        raise ValueError("--peer-only scores no model; leave out --model, --weights and --stages")
    if settings.one_scale and settings.thorough:
        raise ValueError("--one-scale asks once and --thorough three times; take one of them")
    protocols.check(settings.protocol, settings.data)
    if settings.lower_right and not np.isfinite(settings.lower_right).all():
        raise ValueError(f"--lower-right {settings.lower_right}: give three numbers of rows")
    for name in ("limit", "count", "height", "width", "html_scenes"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} {value}: give 1 or more")
    for name in ("json", "markdown", "html"):
        path = getattr(settings, name)
        if path and path.is_dir():
            raise IsADirectoryError(f"--{name} {path} is a folder; give a file")


def _methods(settings: Evaluate, device: torch.device) -> dict[str, Method]:
    """The methods to score, by the name they have in the table."""
    methods: dict[str, Method] = {}
    if not settings.peer_only:
        matcher = StereoMatcher.from_pretrained(
            weights=settings.weights,
            model=settings.model,
            device=device,
            precision=settings.precision,
            max_memory=settings.max_memory,
            thorough=settings.thorough,
        )
        if settings.one_scale:
            matcher.scales = Scales()
        named = Path(settings.weights).name if settings.weights else DEFAULT_MODEL
        name = settings.model or named
        methods[name] = _run_model(matcher)
        if settings.stages:
            methods |= _run_stages(name, matcher)
    if settings.peer == "sgbm":
        methods |= {mode: _run_peer(mode) for mode in peers.MODES}
    return methods


def _run_model(matcher: StereoMatcher) -> Method:
    def method(left: np.ndarray, right: np.ndarray, truth: StereoSample) -> _Answer:
        result = matcher(left, right)
        return _Answer(result.disparity, result.occlusion > 0.5)

    return method


def _run_stages(name: str, matcher: StereoMatcher) -> dict[str, Method]:
    """The model's own row, and one for each stage on the way; they take no time of their own."""
    recorder, whole = StageRecorder(matcher.model), _run_model(matcher)

    def run(left: np.ndarray, right: np.ndarray, truth: StereoSample) -> _Answer:
        recorder.clear()
        return whole(left, right, truth)

    def take(stage: str, left: np.ndarray, right: np.ndarray, truth: StereoSample) -> _Answer:
        return _Answer(*(map_.cpu().numpy() for map_ in recorder.stages(left.shape[:2])[stage]))

    return {name: run} | {f"{name}: {stage}": partial(take, stage) for stage in STAGES}


def _run_peer(mode: str) -> Method:
    def method(left: np.ndarray, right: np.ndarray, truth: StereoSample) -> _Answer:
        largest = float(truth.disparity.max())
        return _Answer(*peers.match(left, right, largest, mode))

    return method


def _cases(settings: Evaluate) -> Cases:
    if settings.data == "generated":
        return evaluation_data.generated(settings.height, settings.width, settings.count)
    if settings.data == "pairs":
        return evaluation_data.folders(settings.root, settings.limit)
    return evaluation_data.published(settings.data, settings.root[0], settings.limit)


def _score_case(name: str, method: Method, case: Case) -> tuple[Row, np.ndarray]:
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
    known, objects = case.occlusion_known, case.foreground
    row = score(*answer, case.sample, known, name, case.group, seconds, objects)
    return row, answer.disparity


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _written_down(settings: Evaluate) -> dict[str, Any]:
    """The settings as JSON can hold them, with the peer's own."""
    plain = {
        name: [_plain(part) for part in value] if isinstance(value, tuple) else _plain(value)
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
    if settings.list_protocols:
        print(protocols.describe())
        return
    scores = evaluate(settings)
    if scores is None:
        return
    print(as_table(scores))
    print("\n" + scores.protocol.replace(". ", ".\n"))
    for path, what in (
        (settings.json, "the same numbers and more"),
        (settings.markdown, "the tables"),
        (settings.html, "them and the worst scenes"),
    ):
        if path:
            print(f"{path} holds {what}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `stereo-tr evaluate`."""
    run(Evaluate, _print_scores, "evaluate", __doc__.partition("\n")[0], arguments)


if __name__ == "__main__":
    main()

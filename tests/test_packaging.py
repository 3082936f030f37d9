"""What is shipped: the package's folders, its promised names, and a README that is true."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import stereo_tr
from stereo_tr.matcher import DEFAULT_MODEL
from stereo_tr.pretrained import packaged_weights
from stereo_tr.scripts.main import COMMANDS, main

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
FLOORS = ROOT.parent / "shared" / "tools" / "floors.py"
MODULES = sorted(
    path for top in ("stereo_tr", "datasets", "scripts") for path in (ROOT / top).rglob("*.py")
)


def test_every_folder_with_code_is_packaged():
    """An unlisted folder imports in a checkout and is missing from the wheel."""
    setuptools = PROJECT["tool"]["setuptools"]
    places = sorted(setuptools["package-dir"].items(), key=lambda item: -len(item[0]))

    def folder(package):
        base, place = next((b, p) for b, p in places if f"{package}.".startswith(f"{b}."))
        return ROOT / place / package.removeprefix(base).strip(".").replace(".", "/")

    assert {folder(package) for package in setuptools["packages"]} == {
        path.parent for path in MODULES
    }


def test_promised_names():
    assert {"StereoMatcher", "create_model", "list_models", "load_weights"} <= set(
        stereo_tr.__all__
    )
    assert all(callable(getattr(stereo_tr, name)) for name in stereo_tr.__all__)
    assert {"cstr", "cstr_small", "sttr", "sttr_light"} <= set(stereo_tr.list_models())
    assert {"estimate", "train", "evaluate"} <= set(COMMANDS)


def test_default_weights_come_along():
    path = packaged_weights(DEFAULT_MODEL)
    assert path.parent.parent == Path(stereo_tr.__file__).parent
    assert path.stat().st_size < 16e6
    assert (path.parent.parent / "py.typed").is_file()


def test_console_commands_resolve():
    for target in PROJECT["project"]["scripts"].values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def requirement_names(requirements):
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}


def test_requirements():
    """Everything asked for is pinned, and what would bring other people's models isn't there."""
    project = PROJECT["project"]
    asked = requirement_names(
        sum(project["optional-dependencies"].values(), project["dependencies"])
    )
    lines = [line for line in CONSTRAINTS.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", line) for line in lines)
    assert lines == sorted(lines, key=lambda line: line.split("==")[0])
    pinned = requirement_names(lines)
    assert asked - {project["name"]} <= pinned
    assert pinned.isdisjoint({"torchvision", "timm", "datasets"})
    assert "transformers" not in requirement_names(project["dependencies"])


def test_one_version():
    assert PROJECT["project"]["version"] == stereo_tr.__version__


def test_nothing_imports_upward():
    if not FLOORS.is_file():
        pytest.skip(f"{FLOORS} lies outside the repository and isn't here")
    listed = subprocess.run(
        [sys.executable, FLOORS, ROOT], capture_output=True, text=True, check=True
    )
    assert listed.stdout == ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_and_what_proves_it(path):
    tree = ast.parse(path.read_text())
    text = ast.get_docstring(tree)
    assert text, "no docstring"
    named = re.findall(r"tests/[\w/]+\.py", text)
    for test in named:
        assert (ROOT / test).is_file(), f"{test} is named and isn't there"
    has_code = any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree))
    assert named or not has_code or path.name == "__init__.py", "no tests are named"


def fenced(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "words"),
    [("example", "stereo-tr estimate --example --out example"), ("tests", "pytest")],
)
def test_ci_runs_the_commands_of_the_readme(name, words):
    """The README marks them, .ci/run reads them from there by that mark."""
    (command,) = re.findall(rf"^<!-- ci: {name} -->\n```sh\n(.+)\n```$", README, re.MULTILINE)
    assert command.startswith("python3 -m venv ")
    assert "--constraint constraints.txt" in command
    assert command.endswith(words)
    script = (ROOT / ".ci/run").read_text()
    assert re.search(rf"^run_in_copy {name}$", script, re.MULTILINE)
    assert command not in script


def test_every_option_in_the_readme_exists(capsys):
    commands = re.findall(r"stereo-tr (\w+)(.*)|scripts\.(\w+)(.*)", "\n".join(fenced("sh")))
    assert len(commands) > 10
    for first, first_rest, second, second_rest in commands:
        with pytest.raises(SystemExit):
            main([first or second, "--help"])
        known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
        used = (first_rest + second_rest).partition(" #")[0]
        assert set(re.findall(r"--[\w-]+", used)) <= known, first or second


def test_python_in_the_readme_is_of_promised_names():
    for block in fenced("python"):
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "stereo_tr":
                names = [node.attr]
            else:
                continue
            assert set(names) <= set(stereo_tr.__all__)


@pytest.mark.parametrize("document", ["README.md", "docs/model_card.md", "docs/accuracy.md"])
def test_documents_point_to_files_that_exist_and_are_finished(document):
    path = ROOT / document
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert "://" in target or (path.parent / target).exists(), target
    assert "TODO" not in text

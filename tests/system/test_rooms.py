"""The rooms of both packages: which may import which. The drawing is docs/architecture.md."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from fixtures_daemon import REPOSITORY

# From the ground up: a room imports from its own floor and from those below, never from above.
FLOORS = {
    "device": (
        ("errors", "settings", "passwords"),
        ("schemas", "system", "image"),
        ("config", "bundle"),
        ("inspection", "camera", "line"),
        ("outbox", "archive", "health"),
        ("mqtt",),
        ("station",),
        ("telemetry",),
        ("learning", "rollout", "aim"),
        ("cli",),
        ("service",),
        ("__main__",),
    ),
    "trainer": (
        ("config", "steps"),
        ("layouts",),
        ("data",),
        ("network",),
        ("scoring",),
        ("training",),
        ("recipes",),
        ("bundle",),
        ("command",),
    ),
}
OF_THE_DEVICE = {
    "image",
    "bundle",
    "inspection",
    "learning",
    "settings",
    "config",
    "errors",
    "schemas",
    "system",
}
MOST_FILES = 13  # in a room
MOST_LINES = 230  # of a class
LONGER = {  # with what would be torn apart
    "Service": 240,  # the story: each part made, started and stopped in one order
    "Picamera2": 275,  # a stand-in with as many faces as what it stands for
    "Database": 235,  # every statement that the outbox's file ever sees
}


def room(module: str) -> str:
    """The part of a package that a module belongs to: a folder, or a module at the package's root."""
    return module.split(".")[1]


def imports_of(path: Path) -> Iterator[str]:
    """The modules of the project that a file imports, at its head or in a function."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (
                names if (REPOSITORY / str(node.module).replace(".", "/")).is_dir() else [node.module or ""]
            )


def arrows(package: str, root: Path = REPOSITORY) -> dict[str, set[str]]:
    """room -> the modules of the project that its files import."""
    found = defaultdict(set)
    for path in sorted((root / package).rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        if not module.endswith("__init__"):
            project = (name for name in imports_of(path) if name.startswith(("device.", "trainer.")))
            found[room(module)].update(name for name in project if not name.endswith("__version__"))
    return found


def upward(package: str, found: dict[str, set[str]]) -> list[str]:
    """Every import of a room on a higher floor. A room without a floor, as a command has none, is the top."""
    floor = {name: height for height, names in enumerate(FLOORS[package]) for name in names}
    top = len(floor)
    return [
        f"{package}/{one} imports {name}"
        for one, names in found.items()
        for name in sorted(names)
        if name.startswith(f"{package}.") and floor.get(room(name), top) > floor.get(one, top)
    ]


def circle(package: str, found: dict[str, set[str]]) -> list[str]:
    """The rooms of a circle of imports, or none."""
    inner = {
        one: {room(name) for name in names if name.startswith(f"{package}.")} - {one}
        for one, names in found.items()
    }
    while leaves := [one for one, names in inner.items() if not names & inner.keys()]:
        for one in leaves:
            del inner[one]
    return sorted(inner)


@pytest.mark.parametrize("package", FLOORS)
def test_no_room_imports_from_above(package: str) -> None:
    assert upward(package, arrows(package)) == []


@pytest.mark.parametrize("package", FLOORS)
def test_no_rooms_import_each_other_in_a_circle(package: str) -> None:
    assert circle(package, arrows(package)) == []


def test_the_trainer_takes_only_what_judges_and_learns_from_the_device() -> None:
    taken = chain.from_iterable(arrows("trainer").values())
    assert {name for name in taken if name.startswith("device.") and room(name) not in OF_THE_DEVICE} == set()


@pytest.mark.parametrize("package", FLOORS)
def test_a_room_can_be_taken_in_at_a_glance(package: str) -> None:
    rooms = (
        path for path in (REPOSITORY / package).iterdir() if path.is_dir() and path.name != "__pycache__"
    )
    counts = {one.name: len([p for p in one.glob("*.py") if p.stem != "__init__"]) for one in rooms}
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}


def drawings() -> dict[str, str]:
    """package -> its picture in docs/architecture.md."""
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    return dict(zip(FLOORS, re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL), strict=True))


@pytest.mark.parametrize("package", FLOORS)
def test_what_is_drawn_is_there(package: str) -> None:
    """Rooms and files by the labels of the boxes, public types by the labels of the arrows."""
    drawing = drawings()[package]
    named = re.findall(r'"([^"]+)"', drawing)
    assert len(named) > 8
    for label in named:
        rooms, _, modules = label.partition(": ")
        for name in rooms.split(", "):
            folder = REPOSITORY / name if name.startswith("device/") else REPOSITORY / package / name
            assert folder.is_dir(), label
            assert {
                one for one in modules.split(", ") if one and not (folder / f"{one}.py").is_file()
            } == set()
    travelling = {word for label in re.findall(r"-- (.+?) -->", drawing) for word in label.split(", ")}
    assert {word for word in travelling if word[0].isupper()} <= public_types().keys()


@pytest.mark.parametrize("package", FLOORS)
def test_each_room_has_its_line(package: str) -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    table = text.partition(f"| {package}/ | |")[2].partition("\n\n")[0]
    named = {
        name.rstrip("/")
        for row in table.splitlines()
        for name in re.findall(r"`([^`]+)`", row[1:].split("|")[0])
    }
    there = {path.name for path in (REPOSITORY / package).iterdir() if not path.name.startswith("__py")}
    assert named - there == set()
    assert {name for name in there - named if (REPOSITORY / package / name).is_dir()} == set()


def public_types(root: Path = REPOSITORY) -> dict[str, list[str]]:
    """The public classes at the top of any module, and where each is."""
    found = defaultdict(list)
    for path in chain.from_iterable(
        (root / package).rglob("*.py") for package in ("device", "trainer", "deploy")
    ):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(root)))
    return found


def leaning_docstrings(root: Path = REPOSITORY) -> list[str]:
    """Where one is not understood without its neighbour: "The same from good images alone"."""
    found = []
    for path in chain.from_iterable(
        (root / package).rglob("*.py") for package in ("device", "trainer", "deploy")
    ):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                said = ast.get_docstring(node) or ""
                if re.match(r"The same\b|(As|Like) (in|above|before|there)\b|Likewise\b", said):
                    found.append(f"{path.relative_to(root)} {node.name}: {said.splitlines()[0]}")
    return found


def test_a_docstring_is_read_alone(tmp_path: Path) -> None:
    assert leaning_docstrings() == []
    leaning = 'def learned():\n    """The same from good images alone."""\n'
    found = leaning_docstrings(write(tmp_path, {"device/a.py": leaning}))
    assert found == ["device/a.py learned: The same from good images alone."]


def test_two_public_types_never_share_a_name() -> None:
    assert {name: places for name, places in public_types().items() if len(places) > 1} == {}


def class_lengths(root: Path = REPOSITORY) -> dict[str, int]:
    """The lines of each class, however deep it stands, by its name."""
    paths = chain.from_iterable((root / package).rglob("*.py") for package in ("device", "trainer", "deploy"))
    nodes = chain.from_iterable(ast.walk(ast.parse(path.read_text("utf-8"))) for path in paths)
    classes = (node for node in nodes if isinstance(node, ast.ClassDef))
    return {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in classes}


def too_long(lengths: dict[str, int]) -> dict[str, int]:
    return {name: lines for name, lines in lengths.items() if lines > LONGER.get(name, MOST_LINES)}


def test_a_class_can_be_read_in_one_sitting() -> None:
    lengths = class_lengths()
    assert too_long(lengths) == {}
    assert {name for name in LONGER if lengths.get(name, 0) <= MOST_LINES} == set(), "no exception any more"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_check_sees_an_import_from_above(tmp_path: Path) -> None:
    hidden = "def late():\n    from device.mqtt.publisher import Publisher\n"
    root = write(tmp_path, {"device/camera/replay.py": hidden})
    assert upward("device", arrows("device", root)) == ["device/camera imports device.mqtt.publisher"]


def test_the_check_sees_a_circle(tmp_path: Path) -> None:
    files = {
        "device/camera/a.py": "from device.line.b import b\n",
        "device/line/b.py": "from device.inspection.c import c\n",
        "device/inspection/c.py": "import device.camera.a\n",
        "device/system/d.py": "import os\n",
    }
    assert circle("device", arrows("device", write(tmp_path, files))) == ["camera", "inspection", "line"]


def test_the_check_sees_a_name_that_two_types_share(tmp_path: Path) -> None:
    files = {"device/a.py": "class Plan:\n    pass\n", "trainer/b.py": "class Plan:\n    pass\n"}
    assert public_types(write(tmp_path, files)) == {"Plan": ["device/a.py", "trainer/b.py"]}


def test_the_check_sees_a_class_that_is_too_long(tmp_path: Path) -> None:
    text = "class Long:\n" + "    a = 1\n" * MOST_LINES + "class Service:\n" + "    a = 1\n" * MOST_LINES
    assert too_long(class_lengths(write(tmp_path, {"device/a.py": text}))) == {"Long": MOST_LINES + 1}

"""A disk that forgets what was not synced: a program's calls as strace saw them, cut after each of them.

What is on the disk for certain is what fsync has put there: of a file its content, of a folder its names. All
that came later is there or not: each change of names by itself, in any combination, and of what was written
any beginning. That is more than most file systems lose, and no less than any.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CALLS = (
    *("openat", "creat", "write", "pwrite64", "writev", "pwritev", "ftruncate", "truncate", "lseek"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
    *(
        "symlink",
        "symlinkat",
        "link",
        "linkat",
        "fsync",
        "fdatasync",
        "sendfile",
        "copy_file_range",
        "fallocate",
    ),
)
_CALL = re.compile(r"\d+ +(\w+)\((.*)\) += (\d+)")  # those that failed changed nothing
_TEXT = re.compile(r'(\d+|AT_FDCWD)<([^>]*)>|"((?:\\x[0-9a-f]{2})*)"')
Tree = dict[str, bytes | str | None]
"""What lies below a folder, by path: the content of a file, where a link leads, None for a folder."""


@dataclass(eq=False)
class Node:
    """A file, a link or a folder, as the program sees it (`now`, `names`) and as the disk surely has it."""

    now: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    target: str | None = None
    names: dict[str, Node] | None = None
    kept: dict[str, Node] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> Node:
        """What is there before the program begins is on the disk."""
        if path.is_symlink():
            return cls(target=str(path.readlink()))
        if path.is_dir():
            names = {child.name: cls.of(child) for child in path.iterdir()}
            return cls(names=names, kept=dict(names))
        return cls(bytearray(path.read_bytes()), path.read_bytes())


Change = list[tuple[Node, str, Node | None]]
"""Names that change in one step: in which folder, which, and what has it then."""


class Disk:
    """What lies below `root`, call by call. `done`: the names of the folders that were made in `marks`."""

    def __init__(self, root: Path, marks: Path) -> None:
        self._root, self._marks = root, marks
        self._top = Node.of(root)
        self._pending: list[Change] = []
        self._places: dict[str, int] = {}  # in open files; None: at the end
        self._appended: set[str] = set()
        self.done: list[str] = []

    def play(self, name: str, arguments: str, result: int) -> bool:
        """One call. Whether anything below the root is other than before, or more certain."""
        found = [(number, decoded(path or text)) for number, path, text in _TEXT.findall(arguments)]
        numbers = [number for number, _ in found]
        paths = [text for _, text in found]
        if name == "mkdir" and Path(paths[0].decode()).parent == self._marks:
            self.done.append(Path(paths[0].decode()).name)
            return False
        play = getattr(self, f"_{name}", None)
        assert play is not None or not any(self._inside(path) for path in paths), (name, arguments[:200])
        return bool(play and play(numbers, paths, arguments, result))

    def trees(self, chance: random.Random) -> Iterator[Tree]:
        """What may be found after a cut now: the least, all names, all, and something in between."""
        yield self._tree([], lambda node: node.synced)
        yield self._tree(self._pending, lambda node: node.synced)
        yield self._tree(self._pending, lambda node: bytes(node.now))
        some = [change for change in self._pending if chance.random() < 0.5]
        yield self._tree(some, lambda node: self._some(node, chance))

    @staticmethod
    def _some(node: Node, chance: random.Random) -> bytes:
        now = bytes(node.now)
        return (
            chance.choice((node.synced, now, now[: chance.randint(0, len(now))]))
            if now != node.synced
            else now
        )

    def _tree(self, changes: list[Change], content: object) -> Tree:
        names: dict[int, dict[str, Node]] = {}
        for change in changes:
            for folder, name, node in change:
                of = names.setdefault(id(folder), dict(folder.kept))
                of.pop(name, None)
                if node is not None:
                    of[name] = node
        tree: Tree = {}

        def walk(folder: Node, path: str) -> None:
            for name, node in names.get(id(folder), folder.kept).items():
                place = f"{path}{name}"
                if node.names is not None:
                    tree[place] = None
                    walk(node, f"{place}/")
                else:
                    tree[place] = content(node) if node.target is None else node.target  # type: ignore[operator]

        walk(self._top, "")
        return tree

    # ---- where things are

    def _inside(self, path: bytes) -> bool:
        return path.startswith(str(self._root).encode() + b"/") or path == str(self._root).encode()

    def _find(self, path: bytes) -> Node | None:
        node: Node | None = self._top
        for name in Path(path.decode()).relative_to(self._root).parts:
            node = None if node is None or node.names is None else node.names.get(name)
        return node

    def _place(self, path: bytes) -> tuple[Node, str] | None:
        """The folder of a path, and its name in it; None outside, and of the root itself."""
        if not self._inside(path) or path == str(self._root).encode():
            return None
        folder = self._find(str(Path(path.decode()).parent).encode())
        assert folder is not None, path
        return folder, Path(path.decode()).name

    def _change(self, *changes: tuple[tuple[Node, str], Node | None]) -> bool:
        """Other names, from now on for the program, and for the disk some time."""
        self._pending.append([(folder, name, node) for (folder, name), node in changes])
        for (folder, name), node in changes:
            assert folder.names is not None
            folder.names.pop(name, None)
            if node is not None:
                folder.names[name] = node
        return True

    # ---- the calls: numbers and texts of their arguments, all of these, what they gave

    def _openat(self, numbers: list[str], paths: list[bytes], arguments: str, result: int) -> bool:
        path = paths[0] + b"/" + paths[1] if not paths[1].startswith(b"/") else paths[1]
        if (place := self._place(path)) is None:
            return False
        folder, name = place
        assert folder.names is not None
        self._places[str(result)] = 0
        self._appended.discard(str(result))
        if "O_APPEND" in arguments:
            self._appended.add(str(result))
        node = folder.names.get(name)
        if node is None:
            return self._change((place, Node()))
        if "O_TRUNC" in arguments and node.now:
            node.now.clear()
            return True
        return False

    def _write(self, numbers: list[str], paths: list[bytes], arguments: str, result: int) -> bool:
        if not self._inside(paths[0]) or (node := self._find(paths[0])) is None:
            return False
        at = len(node.now) if numbers[0] in self._appended else self._places[numbers[0]]
        self._places[numbers[0]] = at + result
        return self._put(node, at, paths[1][:result])

    def _pwrite64(self, numbers: list[str], paths: list[bytes], arguments: str, result: int) -> bool:
        if not self._inside(paths[0]) or (node := self._find(paths[0])) is None:
            return False
        return self._put(node, int(arguments.rpartition(",")[2]), paths[1][:result])

    def _put(self, node: Node, at: int, content: bytes) -> bool:
        node.now.extend(bytes(max(0, at - len(node.now))))
        node.now[at : at + len(content)] = content
        return True

    def _lseek(self, numbers: list[str], paths: list[bytes], arguments: str, result: int) -> bool:
        self._places[numbers[0]] = result
        return False

    def _ftruncate(self, numbers: list[str], paths: list[bytes], arguments: str, result: int) -> bool:
        if not self._inside(paths[0]) or (node := self._find(paths[0])) is None:
            return False
        size = int(arguments.rpartition(",")[2])
        node.now[:] = bytes(node.now[:size]).ljust(size, b"\0")
        return True

    def _rename(self, numbers: list[str], paths: list[bytes], arguments: str, result: int) -> bool:
        old, new = self._place(paths[0]), self._place(paths[-1])
        if old is None or new is None:
            assert old is new, arguments
            return False
        moved = self._find(paths[0])
        replaced = self._find(paths[-1]) if "RENAME_EXCHANGE" in arguments else None
        return self._change((old, replaced), (new, moved))

    def _renameat2(self, numbers: list[str], paths: list[bytes], arguments: str, result: int) -> bool:
        return self._rename(numbers[1::2], paths[1::2], arguments, result)

    def _unlink(self, numbers: list[str], paths: list[bytes], arguments: str, result: int) -> bool:
        place = self._place(paths[0])
        return place is not None and self._change((place, None))

    _rmdir = _unlink

    def _unlinkat(self, numbers: list[str], paths: list[bytes], arguments: str, result: int) -> bool:
        return self._unlink(numbers, [paths[0] + b"/" + paths[1]], arguments, result)

    def _mkdir(self, numbers: list[str], paths: list[bytes], arguments: str, result: int) -> bool:
        place = self._place(paths[0])
        return place is not None and self._change((place, Node(names={})))

    def _symlink(self, numbers: list[str], paths: list[bytes], arguments: str, result: int) -> bool:
        place = self._place(paths[1])
        return place is not None and self._change((place, Node(target=paths[0].decode())))

    def _fsync(self, numbers: list[str], paths: list[bytes], arguments: str, result: int) -> bool:
        if not self._inside(paths[0]) or (node := self._find(paths[0])) is None:
            return False
        if node.names is None:
            node.synced = bytes(node.now)
            return True
        mine = [change for change in self._pending if any(folder is node for folder, _, _ in change)]
        self._pending = [change for change in self._pending if change not in mine]
        for change in mine:
            for folder, name, found in change:
                folder.kept.pop(name, None)
                if found is not None:
                    folder.kept[name] = found
        return True

    _fdatasync = _fsync


def decoded(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def traced(command: tuple[str, ...], trace: Path) -> subprocess.CompletedProcess[str]:
    """Run a command, and write what it and its children do with files."""
    options = (
        "-f",
        "-y",
        "-xx",
        "-s",
        "100000000",
        "--seccomp-bpf",
        "-e",
        f"trace={','.join(CALLS)}",
        "-o",
        str(trace),
    )
    return subprocess.run(
        ("strace", *options, *command), capture_output=True, text=True, check=False, timeout=280
    )


def calls(trace: Path) -> Iterator[tuple[str, str, int]]:
    """Name, arguments and result of every call that did what it should, in the order of their ends."""
    begun: dict[str, str] = {}
    with trace.open() as lines:
        for line in lines:
            number, _, rest = line.rstrip("\n").partition(" ")
            if rest.endswith("<unfinished ...>"):
                begun[number] = rest.removesuffix("<unfinished ...>")
                continue
            if resumed := re.match(r" *<\.\.\. \w+ resumed>", rest):
                rest = begun.pop(number, "") + rest[resumed.end() :]
            if found := _CALL.match(f"{number} {rest}"):
                yield found[1], found[2], int(found[3])


def lay(tree: Tree, folder: Path) -> None:
    """Make a folder that holds what was found after a cut."""
    folder.mkdir()
    for path, content in tree.items():
        place = folder / path
        if content is None:
            place.mkdir()
        elif isinstance(content, str):
            place.symlink_to(content)
        else:
            place.write_bytes(content)

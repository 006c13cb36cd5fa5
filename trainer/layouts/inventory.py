"""Every file below a folder, once: what a reader takes of it, and by kind and number what nobody takes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from device.image.image_file import IMAGE_SUFFIXES

NAMES_SHOWN = 3
PASSED_OVER = frozenset(
    {"@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found"}
)  # of disks and archives
WAYS = {  # from files that lie in such folders to images that are read
    "convert them first: magick mogrify -format jpg FILES": "heic heif avif gif jp2 dng",
    "take pictures out of them first: ffmpeg -i FILE -vf fps=2 %04d.jpg": "mov mp4 avi mkv",
    "unpack them first": "zip rar 7z tar gz tgz",
    "save them as CSV first": "xlsx xls ods",
    "annotations of COCO, YOLO or VOC go through a labelling tool (docs/guide/labelling.md)": "json xml yaml",
}


@dataclass(frozen=True, slots=True)
class File:
    """`name`: relative to the inventory's root, "/" between parts, printable whatever bytes it is made of."""

    name: str
    path: Path

    @property
    def folders(self) -> tuple[str, ...]:
        return PurePosixPath(self.name).parts[:-1]

    @property
    def base(self) -> str:
        return PurePosixPath(self.name).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()


@dataclass(slots=True)
class Inventory:
    """`files`: those that a reader may take, in order of their names. `images`: those named as images.

    `empty`: folders without anything below them. `odd`: what is no file to read, by what it is.
    """

    root: Path
    files: list[File] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    odd: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path) -> Inventory:
        """Walk the folder, links to folders included, each folder once on the way down to it."""
        inventory = cls(root)
        inventory._walk(root, "", (os.path.realpath(root),))
        return inventory

    @property
    def images(self) -> list[File]:
        return [file for file in self.files if file.suffix in IMAGE_SUFFIXES]

    def not_read(self, folders: tuple[str, ...] = ()) -> str:
        """What files below a folder are no images that are read, and the way from there; "" without any."""
        found = Counter(
            file.suffix
            for file in self.files
            if file.folders[: len(folders)] == folders and way_from(file.suffix)
        )
        return "; ".join(
            f"{_counted(count, f'{suffix} file')}: {way_from(suffix)}" for suffix, count in found.items()
        )

    def top(self) -> list[str]:
        """What lies directly in the root."""
        names = [file.name.partition("/")[0] for file in self.files] + [
            name.partition("/")[0] for name in self.empty
        ]
        return sorted(dict.fromkeys(names))

    def left_out(self, used: Iterable[Path], explained: Container[str] = ()) -> Iterator[str]:
        """A line for each kind of file that nobody uses, with their number and a few of their names.

        `used`: absolute paths. `explained`: names of files of which it is said already why they are not used.
        """
        taken = set(used)
        others = [
            file for file in self.files if file.name not in explained and file.path.absolute() not in taken
        ]
        yield from self._images_left_out(file for file in others if file.suffix in IMAGE_SUFFIXES)
        by_suffix: dict[str, list[str]] = {}
        for file in others:
            if file.suffix not in IMAGE_SUFFIXES:
                by_suffix.setdefault(file.suffix or "no suffix", []).append(file.name)
        for suffix, names in sorted(by_suffix.items()):
            line = (
                f"{_counted(len(names), 'file')} left out, {suffix} is no image that is read: {some(names)}"
            )
            yield "; ".join(filter(None, (line, way_from(suffix))))
        for what, names in sorted(self.odd.items()):
            yield f"{len(names)} left out, {what}: {some(names)}"

    @staticmethod
    def _images_left_out(files: Iterable[File]) -> Iterator[str]:
        by_folder: dict[str, list[str]] = {}
        for file in files:
            by_folder.setdefault("/".join(file.folders) or ".", []).append(file.base)
        for folder, names in sorted(by_folder.items()):
            yield f"{folder}: {_counted(len(names), 'image')} left out: {some(names)}"

    def _walk(self, folder: Path, name: str, above: tuple[str, ...]) -> bool:
        """Whether anything lies below the folder."""
        try:
            with os.scandir(folder) as entries:
                children = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._note(f"a folder that cannot be read ({error.strerror})", name or ".")
            return True
        for child in children:
            self._take(child, f"{name}/{printable(child.name)}" if name else printable(child.name), above)
        if name and not children:
            self.empty.append(name)
        return bool(children)

    def _take(self, child: os.DirEntry[str], name: str, above: tuple[str, ...]) -> None:
        try:
            folder, file = child.is_dir(), child.is_file()
        except OSError as error:
            return self._note(f"cannot be looked at ({error.strerror})", name)
        if child.name.startswith("."):
            return self._note("hidden", name)
        if folder and child.name.lower() in PASSED_OVER:
            count = sum(len(files) for _, _, files in os.walk(child.path))
            return self._note("made by a disk or an archive, not by a camera", f"{name} ({count} files)")
        if folder:
            real = os.path.realpath(child.path)
            if real in above:
                return self._note("a link to a folder above it", name)
            self._walk(Path(child.path), name, (*above, real))
            return None
        if file:
            self.files.append(File(name, Path(child.path)))
            return None
        return self._note("a broken link" if child.is_symlink() else "neither file nor folder", name)

    def _note(self, what: str, name: str) -> None:
        self.odd.setdefault(what, []).append(name)


def way_from(suffix: str) -> str:
    """What makes images of files of that suffix; "" where nobody knows."""
    return next((way for way, suffixes in WAYS.items() if suffix.removeprefix(".") in suffixes.split()), "")


def printable(name: str) -> str:
    r"""A file's name as text that can be written anywhere: bytes that are no UTF-8 become \xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def some(names: list[str]) -> str:
    """The first few of them, and how many more there are."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")

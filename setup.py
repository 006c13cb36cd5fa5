"""What pyproject.toml cannot say: a wheel carries the commit it was built from."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent))  # a build back-end does not look here by itself

from device.system import version


class BuildWithCommit(build_py):
    """Writes device/system/commit.txt into what is built, never into the checkout."""

    def run(self) -> None:
        """Build, then stamp."""
        super().run()
        commit = version.described().partition("(commit ")[2].rstrip(")")
        if commit:
            stamp = Path(self.build_lib) / "device" / "system" / "commit.txt"
            stamp.write_text(f"{commit}\n", "ascii")


setup(cmdclass={"build_py": BuildWithCommit})

"""What version 0.1.0 left on a station: six parts, judged while the broker was away, one reviewed.

The bundle that it judged by is the demo's.
"""

from __future__ import annotations

from fixtures_daemon import REPOSITORY

DEMO = REPOSITORY / "deploy" / "demo"
OLD = REPOSITORY / "tests" / "data" / "0.1.0"
SESSION = "b32858df67114858b5d80df6e87acb77"
EVENTS = [f"{SESSION}-{number:08d}" for number in range(6)]
MANIFEST = "87dd28c014a6e19bbda9602f2b47a8a4e0d8ed8c0e56ccf929a6afa90f01aa64"  # of its bundle, SHA-256

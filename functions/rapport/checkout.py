"""Where the files are that a checkout has beside the package: serverless.yml, migrations, pins."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent
_BESIDE = PACKAGE.parents[1]
# whether this is a checkout or an image, and not what pip has installed
IS_CHECKOUT = PACKAGE.parent.name == "functions" and (_BESIDE / "serverless.yml").exists()
# installed alone, the package has copies of these files
CHECKOUT = _BESIDE if IS_CHECKOUT else PACKAGE / "checkout"

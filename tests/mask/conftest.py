"""The golden files are read as the tests of the vision models read them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "vision"))

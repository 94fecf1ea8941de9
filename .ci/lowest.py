"""Print the lowest versions that pyproject.toml allows of what minilm needs, as constraints for pip."""

import re
from pathlib import Path

import tomllib

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in project["dependencies"]:
    name, lowest = re.fullmatch(r"([\w-]+)>=([\d.]+),<[\d.]+", requirement).groups()
    print(f"{name}=={lowest}")

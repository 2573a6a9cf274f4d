"""`python -m kvproxy.settings [DIR]` writes the generated files of config/."""

import sys
from pathlib import Path

from kvproxy.settings.reference import generated_files


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in generated_files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("config"))

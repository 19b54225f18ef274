"""Generated files that are checked in: compare them with the code, or write them anew.

python -m tests.schema_drift           # 1 and a message where a file is stale
python -m tests.schema_drift --write
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.registry import registry_schema_text
from pipeline.store.schema import schema_json
from tests.build_table import build_markdown
from tests.house_picture import house_svg
from tests.refusal_table import refusals_markdown
from tests.source_table import sources_markdown
from tests.training_table import training_markdown

ROOT = Path(__file__).parents[1]
GENERATED = {
    ROOT / "registries" / "schema.json": registry_schema_text,
    ROOT / "docs" / "reference" / "store_schema.json": schema_json,
    ROOT / "docs" / "reference" / "build.md": build_markdown,
    ROOT / "docs" / "reference" / "sources.md": sources_markdown,
    ROOT / "docs" / "reference" / "refusals.md": refusals_markdown,
    ROOT / "docs" / "reference" / "training.md": training_markdown,
    ROOT / "docs" / "pictures" / "house.svg": house_svg,
}


def main(write: bool) -> int:
    stale = []
    for path, generate in GENERATED.items():
        text = generate()
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(path.relative_to(ROOT))
    for path in stale:
        print(f"{path} differs from the code; run: make schema")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main("--write" in sys.argv[1:]))

"""A corpora folder of the freely licensed corpora alone.

    python tools/train/free.py CORPORA_DIR OUT_DIR

writes OUT_DIR/manifest.csv with the rows of those corpora (`data.FREE`), and links to their folders and to `noise`. Whatever
is trained from OUT_DIR sees nothing else, not even as voices in the background.
"""

import csv
import sys
from pathlib import Path

from data import FREE


def main(corpora, out):
    corpora, out = Path(corpora).resolve(), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for folder in (*FREE, "noise"):
        link = out / folder
        if not link.is_symlink():
            link.symlink_to(corpora / folder)
    with open(corpora / "manifest.csv", newline="") as f, open(out / "manifest.csv", "w", newline="") as g:
        reader = csv.DictReader(f)
        writer = csv.DictWriter(g, reader.fieldnames, lineterminator="\n")
        writer.writeheader()
        writer.writerows(r for r in reader if r["corpus"] in FREE)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])

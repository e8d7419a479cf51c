#!/usr/bin/env python3
"""Writes and executes docs/notebook.ipynb.

    python tools/notebook.py          needs the package maeum (folder python), pandas, matplotlib, nbclient, ipykernel

The notebook makes its own folder of recordings from tests/data/voice.wav, so that it runs everywhere.
"""

import pathlib

import nbclient
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = pathlib.Path(__file__).resolve().parent.parent

CELLS = [
    """# From a folder of recordings to a table, a plot and an evaluation

`tools/notebook.py` writes and executes this notebook. Its recordings are parts of one synthetic voice, so the answers mean nothing.""",
    """import pathlib, tempfile, wave

import maeum

folder = pathlib.Path(tempfile.mkdtemp())
with wave.open("../tests/data/voice.wav") as voice:
    rate, frames = voice.getframerate(), voice.readframes(voice.getnframes())
for name, begin, end in [("anna/1.wav", 0, 4.4), ("anna/2.wav", 1, 4.4), ("ben/1.wav", 0, 2.5), ("ben/2.wav", 2, 4.4)]:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as part:
        part.setnchannels(1), part.setsampwidth(2), part.setframerate(rate)
        part.writeframes(frames[2 * int(rate * begin) : 2 * int(rate * end)])
(folder / "notes.wav").write_text("no recording")""",
    "## A table\n\nA recording that cannot be used is a row with its error.",
    """recognizer = maeum.Recognizer()
table = recognizer.process_folder(folder, include_root=False)
table.to_pandas()[["file", "emotion", "happiness", "anger", "age", "male", "duration", "error_code"]].round(3)""",
    "Each stretch of speech has an answer of its own:",
    """table.segments.to_pandas()[["file", "start", "end", "emotion", "age"]].round(2)""",
    "## One recording over time",
    """prediction = recognizer.process_file("../tests/data/voice.wav")
axes = prediction.plot()""",
    "## Relative to the speaker",
    """profile = recognizer.enroll([folder / "anna/1.wav", folder / "anna/2.wav"])
adapted = recognizer.process_file(folder / "anna/2.wav", profile=profile)
profile, adapted.emotions[adapted.emotion]""",
    "## An evaluation against labels",
    """manifest = folder / "manifest.csv"
manifest.write_text('''path,emotion,gender,age,speaker
anna/1.wav,happiness,male,30,anna
anna/2.wav,anger,male,30,anna
ben/1.wav,anger,male,25,ben
ben/2.wav,happiness,male,25,ben
''')
print("\\n".join(str(recognizer.evaluate(manifest)).splitlines()[1:24]))""",
]


def main():
    notebook = new_notebook(metadata={"language_info": {"name": "python"}})
    for text in CELLS:
        is_text = text.startswith(("#", "A ", "Each")) and "import" not in text
        notebook.cells.append(new_markdown_cell(text) if is_text else new_code_cell(text))
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT / "docs")}})
    client.execute()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell{number}"
        cell.metadata = {}
    nbformat.write(notebook, ROOT / "docs" / "notebook.ipynb")


if __name__ == "__main__":
    main()

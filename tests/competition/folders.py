"""Small made-up folders of files: tables, parts of them, texts."""

import pandas as pd

IDS, TEST_IDS = [f"r{n}" for n in range(12)], [f"t{n}" for n in range(4)]
TRAIN = {"id": IDS, "text": [f"the kettle was quite good, number {n}" for n in range(12)], "label": ["a", "b"] * 6}
TEST = {"id": TEST_IDS, "text": [f"the garden looked dull, number {n}" for n in range(4)]}
SAMPLE = {"id": TEST_IDS, "label": ["a"] * 4}
BARE = {"id": IDS, "label": TRAIN["label"]}
TEXTS = {f"train/{id}.txt": text for id, text in zip(IDS, TRAIN["text"], strict=True)}
TEXTS |= {f"test/{id}.txt": text for id, text in zip(TEST_IDS, TEST["text"], strict=True)}
PROMPTED = {**TRAIN, "prompt": ["p1", "p2"] * 6}, {**TEST, "prompt": ["p3"] * 4}
PROMPTS = {"prompt": ["p1", "p2"], "about": ["write of a day", "write of a night"]}


def written(folder, files):
    """A folder with files: columns of a table, or text."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            content = pd.DataFrame(content).to_csv(index=False, sep="\t" if name.endswith("tsv") else ",")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder

"""What the preparation of a large corpus takes: peak memory and megabytes a second.

    python tests/benchmarks/preparation.py [--megabytes 2000] [--row-bytes 2700]

Writes a corpus of random words to a temporary folder, in rows of about that size, a tenth of them
with accents and one in fifty a duplicate, and prepares it in this process. Memory grows with the
number of rows, by about 40 bytes each, and not with the texts. The processor time means something
on a busy machine too.
"""

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path

from tasks.data.build import build_datasets
from tasks.data.config import DataConfig
from tasks.data.report import Progress


def write_corpus(path: Path, size: int, row_bytes: int) -> int:
    """Write rows of texts until the file has a size, and return their number."""
    draw = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(20_000)]
    texts = [" ".join(draw.choices(words, k=max(1, row_bytes // 7))) for _ in range(2_000)]
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            numbers = (n - (n % 50 == 49) for n in range(rows, rows + 2_000))
            found = (f"{n} {texts[n % 2_000]}{' é' * (n % 10 == 0)}" for n in numbers)
            lines = [json.dumps({"text": text}, ensure_ascii=False) for text in found]
            file.write("\n".join(lines) + "\n")
            rows += len(lines)
    return rows


def main() -> None:
    """Generate, prepare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=2_000)
    parser.add_argument("--row-bytes", type=int, default=2_700)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quartet-") as scratch:
        folder = Path(scratch) / "data"
        folder.mkdir()
        rows = write_corpus(folder / "pretrain.jsonl", options.megabytes * 10**6, options.row_bytes)
        pairs = [{"prompt": f"p{n}", "chosen": "a", "rejected": "b"} for n in range(100)]
        (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        config = DataConfig(
            source="sources",
            corpus=str(folder / "pretrain.jsonl"),
            preferences=str(folder / "pairs.jsonl"),
        )
        started, used, shown = time.monotonic(), time.process_time(), [0]

        def show(progress: Progress) -> None:
            if progress.bytes > shown[0] + 2 * 10**8:
                shown[0] = progress.bytes
                size = progress.bytes / 1e6
                print(f"{progress.rows:>12,} rows {size:>8,.0f} MB {peak():>8,.0f} MiB", flush=True)

        report = build_datasets(config, 0, Path(scratch) / "out", show)
        seconds, processor = time.monotonic() - started, time.process_time() - used
        kept = report.collections[0]
        print(
            f"{rows:,} rows, {options.megabytes:,} MB: peak {peak():,.0f} MiB; {seconds:.0f} s, "
            f"{processor:.0f} s of a processor: {options.megabytes / processor:.0f} MB/s; "
            f"kept {kept.train:,} + {kept.heldout:,}, dropped {dict(kept.dropped)}"
        )


def peak() -> float:
    """The most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()

"""What `laconic inspect` costs on a pair of checkpoints of Qwen2.5-0.5B's shape, 1 GB each.

    python benchmarks/inspecting.py --scratch FOLDER

Page cache warm, start-up included; `cat` of both files beside it. FOLDER has 2 GB free.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from merge import machine, make_pair, measure


def main() -> None:
    """Make the pair, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scratch", required=True, help="a folder on a disk with 2 GB free")
    scratch = Path(parser.parse_args().scratch) / "laconic-benchmark"
    scratch.mkdir(parents=True)
    try:
        pair = [str(folder) for folder in make_pair(scratch, "0.5b")]
        cat = measure(["cat", *(f"{folder}/model.safetensors" for folder in pair)])
        cost = measure([sys.executable, "-m", "laconic", "inspect", *pair])
    finally:
        shutil.rmtree(scratch)
    print(machine())
    print(f"inspect: {cost.cpu:.1f} CPU s, {cost.wall:.1f} s, {cost.anon:.2f} GB anonymous")
    print(f"cat:     {cat.cpu:.1f} CPU s, {cat.wall:.1f} s")


if __name__ == "__main__":
    main()

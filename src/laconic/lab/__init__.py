"""The lab: a miniature model family, trained from nothing on a CPU, in which overthinking is real.

`base` and `system1` answer in one fast line per operation and slip on products; `system2` thinks,
checks every line by written working, often twice, and repairs what was wrong.

- `family`: trains and ships the models. Start here. `variants`: the same in other file layouts.
- `sizes`, `styles`, `corpus`, `tokenizer`: model sizes, ways to write a solution, texts, tokens.
- `fit`, `phases`: training. `reading`: what a completion says line by line. `demo`: the main job.
"""

from laconic.lab.family import folder, members, train, write
from laconic.lab.variants import VARIANTS, write_variants

__all__ = ["VARIANTS", "folder", "members", "train", "write", "write_variants"]

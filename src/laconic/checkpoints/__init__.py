"""A model on disk: what is in its folder, read lazily, checked, and written back whole.

In: a folder, a Hub id, ``lab:NAME`` or ``BASE+ADAPTER``. Out: a `Checkpoint` whose tensors are
memory-mapped when asked for, and folders that appear complete or not at all.

Start with `checkpoint`. Then, in the order in which a folder is read:

- `hub`, `links`, `untrusted`: where the folder comes from, and which files in it are refused.
- `header`, `packed_formats`: names, types and shapes of the tensors; whether weights are packed.
- `configs`, `rotary`: config.json in one notation, compared with another one.
- `architecture`, `layout`, `parts`: which tensor is embedding, head, layer, tower.
- `architecture_names`, `name_map`: names on disk and names in a loaded model; fused weights.
- `compatibility`: whether checkpoints can be merged.
- `token_strings`, `tokenizer`, `chat_template`, `template_process`, `vocabulary`: from text to ids.
- `lora`, `adapter`: LoRA adapters as checkpoints.
- `computed_tensors`: tensors that are computed instead of read. `resources`: the cost of a merge.
- `model_files`, `carried_files`: config, tokenizer and other files. `writer`: writing it all.
"""

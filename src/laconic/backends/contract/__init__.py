"""What a backend must do and what it may use.

- `backend`: the protocol and the decorator. Start here.
- `call`: one completion that is asked for, and what a backend may declare that it can do.
- `transcript`: token ids to a completion, its thought and its length.
- `decoding`: per-row random draws and a key-value cache that grows.
"""

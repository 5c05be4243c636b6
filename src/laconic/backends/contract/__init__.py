"""What a backend must do and what it may use.

- `backend`: the protocol and the decorator. Start here.
- `transcript`: token ids to a completion, its thought and its length.
- `decoding`: per-row random draws and a key-value cache that grows.
"""

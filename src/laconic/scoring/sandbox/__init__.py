"""Untrusted programs run here: separate processes, no network, bounded memory and time.

- `sandbox`: start a program and read how it ended. Start here.
- `inside`, `confine`, `memory`, `syscalls`: what runs inside, with few imports.
- `rooms`, `remote`, `values`: what the program sees of the disk; how values cross.
"""

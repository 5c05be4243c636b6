"""Logs of other tools become run folders.

- `import_log`: the whole way. Start here.
- `readers`: one file a log format; `plain` reads any other table of rows.
- `formats`, `files`, `archive`, `parquet`, `rows`: which format it is, and its rows.
- `contract`: what a log format is, and one answer as found in a log. `columns`, `chats`: its parts.
- `budgets`, `lengths`, `counting`, `problems`: token limits, lengths, and the task's problems.
"""

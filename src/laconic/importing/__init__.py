"""Logs of other tools become run folders.

- `import_log`: the whole way. Start here.
- `readers`: one file a log format; `plain` reads any other table of rows.
- `formats`, `files`, `archive`, `parquet`, `rows`: which format it is, and its rows.
- `record`, `columns`, `chats`: one answer as found in a log.
- `budgets`, `lengths`, `counting`, `problems`: token limits, lengths, and the task's problems.
"""

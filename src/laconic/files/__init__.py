"""Files that users name and files that laconic writes: read within bounds, written whole.

- `text`: the only way user files are opened: regular files, bounded size, UTF-8.
- `json`, `yaml`: strict readers with errors that name file, line and key.
- `presets`: folders of YAML files, each read into a typed value.
- `atomic`: write beside, sync, rename; folders that appear complete; locks.
- `append_log`: files of lines that survive a crash, plain or gzipped.
"""

"""Files that users name and files that laconic writes: read within bounds, written whole.

- `text`: the only reader of files that users name: regular files, bounded size, UTF-8.
- `json`, `yaml`: strict readers with errors that name file, line and key.
- `presets`: folders of YAML files, each read into a typed value.
- `atomic`: files and folders that appear complete or not at all; locks.
- `append_log`: files to which lines are appended and which survive a crash, plain or gzipped.
"""

"""The papers' training settings, one YAML file each; `load` reads them."""

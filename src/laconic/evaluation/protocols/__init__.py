"""The papers' evaluation protocols, one YAML file each; `load` reads them."""

"""The mixture controllers, one file each; `contract` says what a controller is."""

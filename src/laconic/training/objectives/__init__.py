"""Training objectives, one decorated function a file; `contract` says what each declares."""

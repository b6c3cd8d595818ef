"""Studies: each one command, numbers and a picture. See README.md."""

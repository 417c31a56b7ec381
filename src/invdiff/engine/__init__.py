"""The stages of a run and the ground they stand on."""

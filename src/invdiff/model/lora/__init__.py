"""The LoRA: made, saved, loaded, merged."""

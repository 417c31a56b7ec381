"""The frozen base model: loading, identity, prompts as conditions, memory."""

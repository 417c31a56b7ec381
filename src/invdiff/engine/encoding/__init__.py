"""What every stage starts from: the session, the pictures, their latents and captions."""

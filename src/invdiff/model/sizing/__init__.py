"""How large a network is, from its description alone."""

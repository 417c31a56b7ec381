"""The stage that infers the groups."""

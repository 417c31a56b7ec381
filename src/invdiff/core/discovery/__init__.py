"""The max step: scores, contrasts, candidate groups, their objective, the evidence."""

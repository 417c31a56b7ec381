"""The min step: weights, risks, what to aim at, and the bound on the worst mixture."""

"""What every fit shares: loops, optimisers, averages of weights."""

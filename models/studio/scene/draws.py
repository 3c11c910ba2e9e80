"""Random draws beyond those of `random.Random`."""


def weighted(rng, weights):
    """A key of `weights`, drawn in proportion to its value."""
    return rng.choices(list(weights), list(weights.values()))[0]

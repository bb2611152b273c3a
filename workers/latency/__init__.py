"""How long an iteration takes: the model, its fit to measured iterations, profiles of devices."""

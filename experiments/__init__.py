"""Runs and studies: the code that puts data, models, samplers, scores and tracking together."""

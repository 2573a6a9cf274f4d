"""What an engine's work costs on a device, measured with a model of random weights.

`model_shape` reads a config, `decoder` builds the model, `measure` times it, `fit` turns the times
into the prefill law, `break_even` says what the law means. Only what computes needs torch.
"""

"""Modules and results in the forms of others: plain transformers models, ONNX, results as JSON.

`merged_model` and `onnx_model` write a module as a model that loads without adapters_xtl, and hold
it against the stack on `sample_inputs` (`differences`); `results` writes the scores of runs.
"""

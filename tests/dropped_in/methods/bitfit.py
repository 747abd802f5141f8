"""BitFit (Ben Zaken et al. 2022, arXiv 2106.10199): only the encoder's bias terms train."""

import json

from adapters_xtl.methods import Method

WEIGHTS, DESCRIPTION = "module.safetensors", "module.json"


class BitFit(Method):
    title = "A set of bias terms"
    learning_rate = 1e-3
    # `compositions` stays {"init": "copy"}: a child replaces its parent's biases by its own

    def count(self, spec):
        # per layer: five linear layers and two layer norms of the hidden size, one linear layer of
        # the inner size; and the layer norm of the embeddings
        shape = spec.shape
        return shape.layers * (7 * shape.hidden + shape.inner) + shape.hidden

    def attach(self, encoder, chain, options, *, from_layer=0, fuse=False, train=True):
        from safetensors.torch import load_file

        biases = self.biases(encoder)
        source = chain[-1].directory or chain[-1].start
        if source is not None:
            for name, value in load_file(str(source / WEIGHTS)).items():
                biases[name].data.copy_(value)
        encoder.requires_grad_(False)
        for bias in biases.values():
            bias.requires_grad_(train)
        return encoder

    def save(self, encoder, name, directory):
        from safetensors.torch import save_file

        directory.mkdir(parents=True, exist_ok=True)
        biases = {key: value.detach().cpu() for key, value in self.biases(encoder).items()}
        save_file(biases, str(directory / WEIGHTS), metadata={"format": "pt"})
        (directory / DESCRIPTION).write_text(json.dumps({"tensors": len(biases)}))

    def biases(self, encoder):
        return {key: value for key, value in encoder.named_parameters() if key.endswith(".bias")}


METHOD = BitFit()

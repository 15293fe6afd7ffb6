"""The model, in the order in which a picture meets the text.

    vision_encoder            a frozen open_clip tower: pixels to patches
    perceiver_resampler       any number of patches to a few media latents
    gated_cross_attention     tokens look at media latents, through gates that start closed
    language_model            the seams in a frozen Hugging Face language model; palm, one that Hugging Face lacks
    flamingo                  all of it; trainable says which of its parts learn, cache what is kept between calls

    generation                speaking; streams that stop
    backbones                 names of frozen weights, and the weights
    persistence               checkpoints of what trains
    checkpoint                from a name to a model that is ready

Importing it makes the model known to Hugging Face's Auto classes and pipelines.
"""

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from flamingo_app.config import FlamingoConfig, PaLMConfig
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.palm import PaLMForCausalLM
from flamingo_app.processing import FlamingoProcessor

AutoConfig.register(FlamingoConfig.model_type, FlamingoConfig)
AutoModelForCausalLM.register(PaLMConfig, PaLMForCausalLM)
AutoModelForImageTextToText.register(FlamingoConfig, FlamingoForConditionalGeneration)
AutoProcessor.register(FlamingoConfig, FlamingoProcessor)

"""The model, in the order in which a picture meets the text.

vision_encoder -> perceiver_resampler -> gated_cross_attention -> language_model; cache keeps, generation speaks.
"""

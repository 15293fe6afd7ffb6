"""Flamingo App: a few-shot vision-language model."""

"""Labelling pictures in the style of a few examples.

shots           pictures with their texts, read from a file
completion      prompts and encoded pictures to texts, and how sure the model is of them
retrieval       which shots are shown before a picture
captioning      a caption for each picture of many
asking          one answer about some pictures
"""

"""Labelling pictures in the style of a few examples.

shots           pictures with their texts, read from a file
retrieval       which shots are shown before a picture
index           embeddings of shots, kept by content
decoding        pictures to pixel values, ahead of the model
context         what stands before an answer; shots that are the same for all pictures are read once
completion      prompts and encoded pictures to texts, or to how likely each of some answers is
stopping        where an answer ends
labelling       many pictures in batches, copies once, broken ones aside
finding         what somebody typed to the pictures that are meant
records         what came of pictures as JSON lines, COCO or CSV
journal         a file of records that a later run goes on with
job             a record for each picture of many, here or
on_ray          on a cluster
captioning      a caption for each picture of many
classification  one of some labels for each picture of many
report          whether shots matter
intervals       of what was measured
asking          one answer about some pictures
"""

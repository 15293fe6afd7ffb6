"""Where examples come from: the picture book, spelled as captions, questions and episodes, and collated into batches."""

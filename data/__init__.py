"""Where examples come from: the picture book, told as captions, questions and episodes, collated into batches."""

"""How models are taught: the loop, its checkpoints, the starter's staged recipe, and what is measured afterwards."""

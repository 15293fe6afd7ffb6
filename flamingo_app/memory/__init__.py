"""What a memory is built from, in the order in which a turn meets them.

    perceiver_io      a turn of any length to a few latents, and latents to whatever is asked of them
    memformer         the turn reads the memory's slots, and the slots are rewritten by the turn
      position_bias     how far apart two tokens are
      memory_update     slots attend to themselves and to the turn, pass a gate, and are the next memory
    linformer         self-attention whose cost is linear in the length, for paths that are not causal
      reversible        its stack, without kept activations

Each is complete by itself; attention holds what they share. docs/seeds.md compares them with the published packages.
"""

"""From the published packages' names of weights to ours."""

from __future__ import annotations

from tests.parity.comparing import renamed

translate_perceiver = renamed(
    ("cross_attend_block.cross_attn.", "encoder_attention."),
    ("cross_attend_block.cross_ff.norm", "encoder_feed_forward.0"),
    ("cross_attend_block.cross_ff.fn.net.0", "encoder_feed_forward.1"),
    ("cross_attend_block.cross_ff.fn.net.2", "encoder_feed_forward.3"),
    ("decoder_cross_attn.", "decoder_attention."),
    ("decoder_ff.norm", "decoder_feed_forward.0"),
    ("decoder_ff.fn.net.0", "decoder_feed_forward.1"),
    ("decoder_ff.fn.net.2", "decoder_feed_forward.3"),
    ("self_attns.0.0.", ""),
    ("self_attns.0.1.norm", "feed_forward.0"),
    ("self_attns.0.1.fn.net.0", "feed_forward.1"),
    ("self_attns.0.1.fn.net.2", "feed_forward.3"),
    (".fn.", ".attention."),
    ("token_emb.", "token_embeddings."),
    ("pos_emb.", "position_embeddings."),
)

translate_memformer = renamed(
    ("encoder.token_emb", "source_embeddings"),
    ("memory_slots", "slots"),
    ("decoder.net.token_emb", "decoder.embeddings"),
    ("decoder.net.layer_blocks", "decoder.stack"),
    ("decoder.net.norm", "decoder.stack.norm"),
    ("decoder.net.to_logits", "decoder.to_logits"),
    (".layer_blocks", ""),
    ("rel_pos_emb.relative_attention_bias", "position_bias.embedding"),
    ("mem_updater", "memory_update.attention"),
    ("gru.", "memory_update.gate."),
    ("mem_ff.", "memory_update.2."),
    (".0.fn.norm", ".self_norm"),
    (".0.fn.fn", ".self_attention"),
    (".1.fn.norm", ".cross_norm"),
    (".1.fn.fn", ".cross_attention"),
    (".2.fn.norm", ".feed_forward.0"),
    (".2.fn.fn.net.0", ".feed_forward.1"),
    (".2.fn.fn.net.2", ".feed_forward.3"),
)

translate_linformer = renamed(
    ("linformer.net.", "linformer."),
    ("net.layers.", "layers."),
    ("net.blocks.", "layers."),
    ("blocks.", "layers."),
    (".f.net.", ".0."),
    (".g.net.", ".1."),
    (".1.norm", ".feed_forward.0"),
    (".1.fn.w1", ".feed_forward.1"),
    (".1.fn.w2", ".feed_forward.3"),
    (".0.norm", ".norm"),
    (".0.fn", ".attention"),
    ("proj_", "project_"),
    ("token_emb.", "token_embeddings."),
    ("pos_emb.", "position_embeddings."),
)

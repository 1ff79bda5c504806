"""What reads files and other objects as `RawGraphs`, and packs them."""

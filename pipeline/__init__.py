"""The live path: sources, capture, the engine stage, sinks, sessions."""

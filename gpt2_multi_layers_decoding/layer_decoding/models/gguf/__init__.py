"""A model in one GGUF file, as llama.cpp has it: looked at, read by transformers, and mended where that falls short."""

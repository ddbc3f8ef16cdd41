"""LightRAG's OpenAI integration, drop-in: its module names, functions and behaviour over one shared pool.

`openai`, `binding_options` and `utils` carry the names that LightRAG's modules of these names carry, so that moving
to corpusmill is a change of prefix in the imports. What differs, and why, stands in `docs/lightrag.md`.
"""

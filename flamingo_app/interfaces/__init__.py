"""How people reach a model: `cli` on the command line, `web` in the browser."""

"""The chat page: the only place that knows gradio.

uploads     from the browser's files to pictures in memory, and back to files the page can show
chat        one open page: what was said, and the way to stop what is being said
composer    the box to write in, with pictures between the words
card        what this model is and knows, in the page's words
page        the layout, and what its buttons do
server      load a model, serve the page
"""

from flamingo_app.interfaces.web.server import serve

__all__ = ["serve"]

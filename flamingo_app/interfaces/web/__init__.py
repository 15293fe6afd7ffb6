"""The chat page: the only place that knows gradio.

visitors    who looks at it
drafts      what a user writes, from the browser to a message and back
views       what the page shows of a conversation
acting      what its buttons do
endpoints   what gradio's own clients may call by name
looking     which patches each word looked at
talks       conversations to click in an empty chat
composer, examples, card, parts, page    the layout
mount       the page in front of the API
"""

from flamingo_app.interfaces.web.mount import mount_page

__all__ = ["mount_page"]

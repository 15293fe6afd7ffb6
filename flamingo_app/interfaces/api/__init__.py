"""The HTTP API, in OpenAI's shape.

schema        what is asked and answered
errors        what went wrong, in OpenAI's shape
reading       a request's messages and pictures to a chat
completions   a chat's answers, whole or as a stream of events
app           the routes
"""

from flamingo_app.interfaces.api.app import build_api

__all__ = ["build_api"]

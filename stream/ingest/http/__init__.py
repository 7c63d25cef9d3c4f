"""Takes messages that other systems send by HTTP (`pathcast ingest http`).

    webhooks    which paths there are, and what reads the messages of each
    guards      who may send
    server      a request from its first byte to its answer

A reader that needs more of a request than its body, or that answers in another form, is a `Webhook` of its own in
`webhooks.CODED`.
"""

from stream.ingest.http.server import Limits, serve
from stream.ingest.http.webhooks import Webhook, webhooks_of

__all__ = ["Limits", "Webhook", "serve", "webhooks_of"]

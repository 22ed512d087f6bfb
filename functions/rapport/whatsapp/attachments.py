"""Files of messages that go out: given to WhatsApp before the message that names them."""

from __future__ import annotations

from rapport.errors import (
    ConfigError,
    NotFound,
    PayloadTooLarge,
    Unprocessable,
    WhatsAppRefused,
)
from rapport.media_store import MediaStore
from rapport.outbound_store import OutboundMessage
from rapport.storage import Storage
from rapport.whatsapp.graph import NO_TOKEN
from rapport.whatsapp.graph_media import GraphMedia
from rapport.whatsapp.media import content_to_send, upload_to_whatsapp


class Attachments:
    """Uploads what messages name by their `upload_id`."""

    def __init__(self, store: MediaStore, graph: GraphMedia, storage: Storage) -> None:
        self._store = store
        self._graph = graph
        self._storage = storage

    def attach(self, message: OutboundMessage) -> OutboundMessage:
        """The message with WhatsApp's id of its file; as it was where it has none of ours.

        Raises:
            Unprocessable: It can't be sent, now or later: the file was never put, say.
            StoreError: As rapport.store.
            StorageError: The storage refused, or can't be reached.
            WhatsAppError: WhatsApp refused the file, or can't be reached, or there is no token
                for the number; nothing has been sent.
        """
        content = message.content
        if not isinstance(content, dict) or "upload_id" not in content:
            return message
        file = self._store.media_to_send(message.message_id)
        if file is None:
            raise Unprocessable("The file of this message is gone.", field="content.upload_id")
        try:
            media_id = upload_to_whatsapp(file, message.phone_number_id, self._graph, self._storage)
        except NotFound:
            raise Unprocessable(
                "The file was announced and never uploaded.", field="content.upload_id"
            ) from None
        except ConfigError as error:
            raise WhatsAppRefused(str(error), NO_TOKEN) from None
        except PayloadTooLarge as error:
            raise Unprocessable(str(error), field="content.upload_id") from None
        return message.model_copy(
            update={"content": content_to_send(message.type, content, file, media_id)}
        )

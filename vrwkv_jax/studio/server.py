"""Serves the page: on this computer alone unless told otherwise, and with nothing from the internet in it."""

import asyncio
import hmac
import os
import re
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from vrwkv_jax.studio.studio import Studio
from vrwkv_jax.system.errors import UserError

USER = "studio"
SEEN = (".mp4", ".png", ".webp", ".gif", ".zip")
"""Endings of the files that the page may show."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob: "
    "ws: wss:; worker-src 'self' blob:; frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)
"""What browsers load for the page: whatever is asked for in it, nothing from other hosts."""
FILES = re.compile(r"/file[=/]")
"""In the address of a file."""
OUTWARD = re.compile(r"/proxy=|/file[=/]+https?:", re.IGNORECASE)
"""In an address at which gradio would ask another host."""
HERE = ("127.0.0.1", "localhost")
"""What a browser on this computer calls it. A name of another site that leads here is refused."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class Guard:
    """Adds the policy to what is answered, and gives no file but pictures and clips that lie in one of ``places``."""

    def __init__(self, app: Application, places: tuple[str, ...]):
        self._app = app
        self._places = tuple(os.path.realpath(place) + os.sep for place in places)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = str(scope["path"])
        found = FILES.search(path)
        if OUTWARD.search(path) or (found and not self._is_seen(path[found.end() :])):
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"not found"})
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"content-security-policy", POLICY.encode())]
                message = {**message, "headers": [*headers, (b"x-content-type-options", b"nosniff")]}
            await send(message)

        await self._app(scope, receive, with_policy)

    def _is_seen(self, name: str) -> bool:
        path = os.path.realpath(name)
        return path.lower().endswith(SEEN) and path.startswith(self._places)


def serve(
    studio: Studio,
    *,
    port: int,
    listen: bool,
    share: bool,
    password: str | None,
    open_browser: bool,
    announce: Callable[[list[str]], object],
) -> None:
    """Serves the page until it is interrupted, which leaves the job running. ``announce`` gets its addresses.

    Raises:
        UserError: the port is taken.
    """
    cache = studio.places.cache.absolute()
    os.environ["GRADIO_TEMP_DIR"] = str(cache)
    import gradio as gr
    import jax
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from vrwkv_jax.studio.page import THEME, build
    from vrwkv_jax.studio.player import HEAD
    from vrwkv_jax.studio.said import messages_for_the_page

    jax.config.update("jax_platforms", "cpu")  # a device's memory is for the jobs
    places = (str(studio.places.runs.absolute()), str(cache))
    middleware = [Middleware(Guard, places=places)]
    if not listen and not share:
        middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=HERE))
    page = build(studio)
    try:
        _, local, shared = page.launch(
            server_name="0.0.0.0" if listen else "127.0.0.1",
            server_port=port or _free_port(),
            share=share,
            auth=None if password is None else _asks_for(password),
            max_file_size=f"{studio.limits.megabytes}mb",
            allowed_paths=[places[0]],
            blocked_paths=[str(studio.places.lock.absolute())],
            app_kwargs={"middleware": middleware},
            theme=THEME,
            css_paths=[Path(__file__).with_name("page.css")],
            head=HEAD,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
            inbrowser=open_browser,
            show_error=False,
        )
    except OSError as error:
        raise UserError(f"--port {port} is taken ({error}): name another, or 0 for any that is free") from error
    announce([address for address in (local, shared) if address])
    try:
        with messages_for_the_page():
            while True:
                time.sleep(3600)
    finally:
        gr.close_all()


def _asks_for(password: str) -> Callable[[str, str], Any]:
    """What gradio asks, and waits for."""

    async def is_right(user: str, given: str) -> bool:
        right = hmac.compare_digest(given.encode(), password.encode()) & hmac.compare_digest(
            user.encode(), USER.encode()
        )
        if not right:
            await asyncio.sleep(1)  # for those who try many
        return right

    return is_right


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port

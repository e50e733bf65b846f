"""The Session service (contract 3.7): which MQTT clients of the account are connected, and sending one away."""

from fastapi import APIRouter, Request, Response

from query.errors import ApiError
from query.lists import reply_rows
from query.models import session as about
from query.ports import Backend, LiveSession
from query.requests import only_parameters, reply, user_of
from query.times import format_time, zone_of
from storage.registry import User


def shown(session: LiveSession, user: User) -> about.SessionShown:
    """A connected client as the API shows it."""
    return {
        "client_id": session.client_id,
        "ipaddress": session.ipaddress,
        "clean_sess": session.clean_sess,
        "proto_ver": session.proto_ver,
        "keepalive": session.keepalive,
        "connected_at": format_time(session.connected_at_us, zone_of(user.locale)),
    }


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Session"])

    @router.get("/v2/session", **about.LIST)
    async def list_sessions(request: Request) -> Response:
        user = user_of(request, backend)
        only_parameters(request, ())
        live = backend.sessions.live(user.user_id)
        live.sort(key=lambda session: (session.connected_at_us, session.client_id))
        return await reply_rows(shown(session, user) for session in live)

    @router.delete("/v2/session/{client_id:path}", **about.KICK)
    async def kick_session(request: Request, client_id: str) -> Response:
        user = user_of(request, backend)
        only_parameters(request, ())
        if not backend.sessions.kick(user.user_id, client_id):
            raise ApiError("NO_SESSION", f"no client {client_id} is connected")
        return reply({})

    return router

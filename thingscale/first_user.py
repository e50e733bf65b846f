"""The first start on an empty directory: a user, a channel, a device, and something to paste."""

from storage.registry import Registry, User

DEVICE_ID = "demo-1"
CHANNEL = 1


def make_first_user(registry: Registry, at_us: int) -> User | None:
    """On a registry without users: the first one, with a channel and an enabled device. None otherwise."""
    if registry.users():
        return None
    with registry.transaction():
        user = registry.add_user(at_us, user_alias="first user")
        channel = registry.add_channel(user.user_id, CHANNEL, "First channel")
        registry.add_device(user.user_id, DEVICE_ID, at_us, enabled=True, channel=channel.id)
    return user


def banner(user: User, http: str) -> str:
    """What is printed once, with the only mention of the tokens."""
    return f"""
This is a new data directory. A first user was made; its tokens are shown only now
(`thingscale user list --json` tells them again):

    user id       {user.user_id}
    API token     {user.api_token}
    device token  {user.device_token}

Paste this to send a reading as the device {DEVICE_ID}:

    curl http://{http}/post_v2/ -H 'X-DEVICETOKEN: {user.device_token}' \\
         -H 'X-DEVICEID: {DEVICE_ID}' -d '{{"temp": 21.5}}'

and this to read it back:

    curl http://{http}/v2/stream/{CHANNEL} -H 'X-APITOKEN: {user.api_token}' -H 'X-ENDTIME: last'
"""

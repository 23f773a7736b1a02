"""An RTSP server by GStreamer, run by the system's Python, of the stamped frames of senders.py (H.264).

    rtsp_server.py PORT SCENES [USER PASSWORD]

SCENES is a file of gray images without their stamps. Says its port, then obeys lines: ``stall`` sends nothing, ``go``
sends again; ends with its input.
"""

# mypy: ignore-errors
from __future__ import annotations

import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

WIDTH, HEIGHT, FPS, BITS, STAMP_ROWS = 160, 96, 24, 20, 16  # as in senders.py
LAUNCH = (
    f"( appsrc name=src is-live=true format=time caps=video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT},"
    f"framerate={FPS}/1 ! videoconvert ! video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=ultrafast "
    "sliced-threads=false threads=1 bitrate=1500 key-int-max=12 ! h264parse ! "
    "rtph264pay name=pay0 pt=96 config-interval=-1 )"
)
sending = threading.Event()


def stamp(number: int) -> bytes:
    block = WIDTH // BITS
    row = b"".join(bytes([230 if number >> bit & 1 else 20]) * block for bit in range(BITS))
    return row * STAMP_ROWS


def feed(src: Gst.Element, scenes: list[bytes], stop: threading.Event) -> None:
    """Push a frame at each whole period of the machine's clock; its number counts them since the boot."""
    number, origin = int(time.monotonic() * FPS) + 1, None
    while not stop.wait(max(0.0, number / FPS - time.monotonic())):
        running = src.get_current_running_time()
        if sending.is_set() and running != Gst.CLOCK_TIME_NONE:
            if origin is None:
                origin = running - number * Gst.SECOND // FPS
            scene = scenes[number % len(scenes)]
            buffer = Gst.Buffer.new_wrapped(stamp(number % (1 << BITS)) + scene[STAMP_ROWS * WIDTH :])
            buffer.pts = max(0, origin + number * Gst.SECOND // FPS)
            buffer.duration = Gst.SECOND // FPS
            if src.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                origin = None  # it does not play yet
        number += 1


def configure(
    _factory: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia, scenes: list[bytes]
) -> None:
    stop = threading.Event()
    media.connect("unprepared", lambda _media: stop.set())
    src = media.get_element().get_child_by_name("src")
    threading.Thread(target=feed, args=(src, scenes, stop), daemon=True).start()


def demand(server: GstRtspServer.RTSPServer, factory: GstRtspServer.RTSPMediaFactory, *user: str) -> None:
    """Let nobody but the user with this password in."""
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(*user), token)
    server.set_auth(auth)
    role = "user,media.factory.access=(boolean)true,media.factory.construct=(boolean)true"
    factory.add_role_from_structure(Gst.Structure.from_string(role)[0])


def obey(loop: GLib.MainLoop) -> None:
    for line in sys.stdin:
        (sending.set if line.strip() == "go" else sending.clear)()
    loop.quit()


def main(port: str, scenes: str, *user: str) -> None:
    Gst.init(None)
    with open(scenes, "rb") as file:
        images = list(iter(lambda: file.read(WIDTH * HEIGHT), b""))
    server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory.set_shared(True)
    factory.set_launch(LAUNCH)
    factory.connect("media-configure", configure, images)
    if user:
        demand(server, factory, *user)
    server.get_mount_points().add_factory("/cam", factory)
    sending.set()
    if not server.attach(None):
        sys.exit("the port is taken")
    print(server.get_bound_port(), flush=True)
    loop = GLib.MainLoop()
    threading.Thread(target=obey, args=(loop,), daemon=True).start()
    loop.run()


main(*sys.argv[1:])

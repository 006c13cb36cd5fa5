"""A network camera, as far as RTSP goes: GStreamer's server, over the pictures of a folder, again and again.

    /usr/bin/python3 tests/rtsp_server.py FOLDER PORT h264|jpeg

The pictures are 0.png, 1.png, ... PORT 0: any. Prints the port when it listens on 127.0.0.1; the address is
rtsp://127.0.0.1:PORT/line. Debian: python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good and, for
H.264, gstreamer1.0-plugins-ugly.
"""

from __future__ import annotations

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402 - after the versions

ENCODERS = {
    "h264": "x264enc tune=zerolatency qp-max=12 key-int-max=5 ! rtph264pay config-interval=1",
    "jpeg": "jpegenc quality=95 ! rtpjpegpay",
}


def main(folder: str, port: str, codec: str) -> None:
    Gst.init(None)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( multifilesrc location={folder}/%d.png loop=true caps=image/png,framerate=25/1 ! pngdec"
        " ! videoconvert ! video/x-raw,format=I420 ! identity sync=true"
        f" ! {ENCODERS[codec]} name=pay0 pt={96 if codec == 'h264' else 26} )"
    )
    factory.set_shared(True)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/line", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""TensorBoard's event files, read by the format alone."""

import struct

from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event, SessionLog


def masked(data):
    checksum = crc32c(data) & 0xFFFFFFFF
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_events(directory):
    """All events of all files, in the order of TensorBoard, by the TFRecord format."""
    events = []
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            body = data[12 : 12 + length]
            checksums = data[8:12] + data[12 + length : 16 + length]
            assert struct.unpack("<II", checksums) == (masked(data[:8]), masked(body))
            events.append(Event.FromString(body))
            data = data[16 + length :]
    return events


def curves(directory):
    """By tag, the points (step, value) that TensorBoard shows, as they were written."""
    points = {}
    for event in read_events(directory):
        # It drops all points of this step or a later one that came before.
        if event.session_log.status == SessionLog.START:
            points = {
                tag: [point for point in kept if point[0] < event.step]
                for tag, kept in points.items()
            }
        for value in event.summary.value:
            points.setdefault(value.tag, []).append((event.step, value.simple_value))
    return points

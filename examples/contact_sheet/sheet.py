"""Lays thumbnails out in rows and writes a PNG with nothing but the standard library."""
import json
import os
import struct
import sys
import zlib

target, *sources = sys.argv[1:]
tiles = []
for source in sources:
    with open(source, "rb") as picture:
        edge = int(picture.readline().split()[1])
        tiles.append(picture.read())
columns = min(4, len(tiles))
rows = -(-len(tiles) // columns)
width, height = columns * edge, rows * edge
lines = []
for y in range(height):
    line = bytearray(b"\0")
    for column in range(columns):
        index = (y // edge) * columns + column
        start = (y % edge) * edge * 3
        line += tiles[index][start:start + edge * 3] if index < len(tiles) else bytes(edge * 3)
    lines.append(bytes(line))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


with open(target, "wb") as out:
    out.write(b"\x89PNG\r\n\x1a\n")
    out.write(chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)))
    out.write(chunk(b"IDAT", zlib.compress(b"".join(lines), 9)))
    out.write(chunk(b"IEND", b""))
with open(os.environ["JOB_RESULT"], "w") as result:
    json.dump({"width": width, "height": height}, result)

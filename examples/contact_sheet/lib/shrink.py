"""Shrinks a PPM picture to a square by averaging blocks."""
import json
import os
import sys

source, edge, target = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with open(source, "rb") as picture:
    magic, width, height, _ = picture.readline().split()
    data = picture.read()
width, height = int(width), int(height)
small = bytearray()
for y in range(edge):
    rows = range(y * height // edge, max(y * height // edge + 1, (y + 1) * height // edge))
    for x in range(edge):
        columns = range(x * width // edge, max(x * width // edge + 1, (x + 1) * width // edge))
        for channel in range(3):
            values = [data[(r * width + c) * 3 + channel] for r in rows for c in columns]
            small.append(sum(values) // len(values))
with open(target, "wb") as out:
    out.write(b"P6 %d %d 255\n" % (edge, edge) + small)
with open(os.environ["JOB_RESULT"], "w") as result:
    json.dump({"brightness": round(sum(small) / len(small), 3)}, result)

"""bare_container.py SOCKET IMAGE FILE: the life of one container (create, start, wait for its end) over one connection of its own, in
milliseconds, as a line of FILE; it is removed afterwards. Beside it stands what jobc needs for one, in the same run."""
import http.client
import json
import socket
import sys
import time


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])


def ask(connection, method, path, body=None):
    connection.request(method, "/v1.41" + path, body and json.dumps(body), {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        sys.exit(f"{method} {path}: {answer.status} {text[:300]}")
    return json.loads(text) if text else None


connection = Connection("engine")
connection.connect()
begin = time.perf_counter()
container = ask(connection, "POST", "/containers/create", {"Image": sys.argv[2], "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}})["Id"]
ask(connection, "POST", f"/containers/{container}/start")
ask(connection, "POST", f"/containers/{container}/wait")
took = time.perf_counter() - begin
ask(connection, "DELETE", f"/containers/{container}")
with open(sys.argv[3], "a") as out:
    print(took * 1000, file=out)

"""A gate between jobc and a container engine: everything passes, until the request comes that a test waits for. That one is held at
exactly one moment: the engine has done it and jobc does not know yet, or jobc has asked for it and the engine does not know yet. So a
test can kill jobc there, and no other moment will do."""
import os
import re
import select
import socket
import threading

REQUEST = re.compile(rb"\A([A-Z]+) (\S+) HTTP/1\.[01]\r\n")
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 0\r\n\r\n"


def whole(data):
    """Whether this is all of a request."""
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return len(body) >= (int(length[1]) if length else 0)


class Moment:
    """The first request with this method whose path (without its query) fits, or every such one. `when`: `done` (the engine has answered, jobc hears nothing),
    `asked` (the engine hears nothing until deliver()) or `empty` (the engine hears nothing, jobc gets an empty answer and goes on)."""

    def __init__(self, method, path, when, every):
        self.method, self.path, self.when, self.every = method, re.compile(path), when, every
        self.came, self.delivered, self.answered = threading.Event(), threading.Event(), threading.Event()

    def deliver(self):
        """What was asked for by whoever is dead by now comes to the engine."""
        self.delivered.set()

    def fits(self, method, path):
        return (self.every or not self.came.is_set()) and method == self.method and self.path.search(path.partition("?")[0]) is not None


class Gate:
    """Listens on `path`; `host` is what DOCKER_HOST would be. One moment at a time."""

    def __init__(self, engine_socket, path):
        self.engine_socket, self.host = engine_socket, f"unix://{path}"
        self.lock = threading.Lock()
        self.moment, self.closed = None, threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        os.chmod(path, 0o666)
        self.listener.listen(128)
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    def hold(self, method, path, when="done", every=False):
        self.moment = Moment(method, path, when, every)
        return self.moment

    def close(self):
        self.closed.set()
        # Woken, and waited for: a thread that still accepts at a closed descriptor may get what connects to the next gate.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join()
        self.listener.close()

    def accept(self):
        while not self.closed.is_set():
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def take(self, data):
        """The moment, if this is its request."""
        request = REQUEST.match(data)
        with self.lock:
            if request is None or self.moment is None or not self.moment.fits(request[1].decode(), request[2].decode()):
                return None
            moment = self.moment
            if not moment.every:
                self.moment = None
            return moment

    def serve(self, client):
        engine = socket.socket(socket.AF_UNIX)
        held = None
        try:
            engine.connect(self.engine_socket)
            while True:
                for ready in select.select([client, engine], [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        # The end of one half: an upgraded connection goes on in the other direction.
                        other = engine if ready is client else client
                        other.shutdown(socket.SHUT_WR)
                        if ready is client or held:
                            return
                        self.drain(client, engine)
                        return
                    if ready is engine:
                        if held is None:
                            client.sendall(data)
                        else:
                            held.came.set()
                        continue
                    moment = self.take(data)
                    if moment is None:
                        engine.sendall(data)
                    elif moment.when == "empty":
                        client.sendall(EMPTY)
                        moment.came.set()
                    elif moment.when == "asked":
                        while not whole(data) and (more := client.recv(1 << 16)):
                            data += more
                        moment.came.set()
                        moment.delivered.wait()
                        engine.sendall(data)
                        while engine.recv(1 << 16):  # its answer is nobody's
                            moment.answered.set()
                        return
                    else:
                        held = moment
                        engine.sendall(data)
        except OSError:
            pass
        finally:
            client.close()
            engine.close()

    @staticmethod
    def drain(client, engine):
        while data := client.recv(1 << 16):
            engine.sendall(data)

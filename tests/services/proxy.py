"""What may lie between jobc and an engine: takes connections on a unix socket and passes them on, and cuts those that ask for some path,
or forgets them, after so many bytes of the answer.

    with proxy.Proxy(at, engine.socket) as between: … between.host … between.disturb("/archive?path=%2Fjobc%2Fout", 100_000, times=1)
"""
import socket
import threading


class Proxy:
    def __init__(self, path, engine):
        self.path, self.engine = str(path), engine
        self.host = "unix://" + self.path
        self.lock = threading.Lock()
        self.part, self.after, self.times, self.hold = None, 0, 0, False
        self.disturbed = 0               # how many were
        self.happened = threading.Event()
        self.open, self.threads = [], []
        self.listener = socket.socket(socket.AF_UNIX)

    def disturb(self, part, after, times=None, hold=False):
        """A request whose first line has `part`: `after` so many bytes of the answer the connection is cut, or with `hold` nothing more
        comes. The first `times` of them; None: all."""
        with self.lock:
            self.part, self.after, self.times, self.hold = part.encode(), after, times, hold

    def __enter__(self):
        self.listener.bind(self.path)
        self.listener.listen(64)
        self._run(self._accept)
        return self

    def _run(self, what, *arguments):
        thread = threading.Thread(target=what, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.threads[0].join()
        for one in self.open:
            self._end(one)
        for thread in self.threads:
            thread.join()
        for one in (self.listener, *self.open):
            one.close()

    @staticmethod
    def _end(one):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            try:
                engine.connect(self.engine)
            except OSError:
                client.close()
                engine.close()
                continue
            self.open += [client, engine]
            # Bytes of the answer that may still pass, in a list; None: all.
            left = [None]
            self._run(self._ask, client, engine, left)
            self._run(self._answer, client, engine, left)

    def _ask(self, client, engine, left):
        try:
            while data := client.recv(65536):
                with self.lock:
                    if self.part is not None and self.part in data.split(b"\r\n", 1)[0] and self.times != 0:
                        left[0] = self.after
                        if self.times is not None:
                            self.times -= 1
                engine.sendall(data)
        except OSError:
            pass
        self._end(engine)

    def _answer(self, client, engine, left):
        try:
            while data := engine.recv(65536):
                if left[0] is not None:
                    if len(data) > left[0]:
                        client.sendall(data[:left[0]])
                        with self.lock:
                            self.disturbed += 1
                        self.happened.set()
                        if self.hold:
                            return
                        break
                    left[0] -= len(data)
                client.sendall(data)
        except OSError:
            pass
        self._end(client)
        self._end(engine)

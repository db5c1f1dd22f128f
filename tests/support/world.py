"""What tests in Python need of the world around jobc: waiting for an event, whether a process lives, a certificate, servers that break off."""
import pathlib
import ssl
import subprocess
import time


def wait_until(condition, seconds=20, what="something"):
    """Polls; the deadline is only there so that a fault ends the test. What takes long to ask, a program for instance, is asked less
    often, so that it takes no more than half a processor from what is waited for."""
    end = time.monotonic() + seconds
    while True:
        begin = time.monotonic()
        if value := condition():
            return value
        now = time.monotonic()
        if now > end:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(max(0.01, now - begin))


def alive(pid):
    """A zombie is dead."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


class Certificate:
    """Of `localhost`, by an authority that nobody knows: `path` is both."""

    def __init__(self, directory):
        self.path, self.key = pathlib.Path(directory, "certificate.pem"), pathlib.Path(directory, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost", "-keyout", self.key, "-out", self.path], check=True, capture_output=True)

    def wrap(self, listener):
        """The socket of a server, with TLS; the handshake is for the thread that answers."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key)
        return context.wrap_socket(listener, server_side=True, do_handshake_on_connect=False)


def truncated(handler):
    """Answers a request with less than it says."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"edition = 1\n")
    handler.close_connection = True

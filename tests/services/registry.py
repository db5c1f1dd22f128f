"""A registry of the tests' own: version 2 of the distribution API on loopback, to pull from. Strict about what it is asked, and able
to be as bad as registries are: wrong digests, connections cut in the middle of a layer, refused credentials, tokens that expire, answers
that are errors, or that never come.

    with registry.Registry(auth="basic") as r: r.push("team/tool", "1", image); … r.host + "/team/tool:1" …
"""
import base64
import hashlib
import http.server
import json
import re
import secrets
import socket
import threading
import urllib.parse

USER, PASSWORD = "worker", "correct horse: battery"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """auth: None, "basic" or "token" (a token service of its own, as Docker Hub has). Counts requests in `asked`."""

    def __init__(self, auth=None, address="127.0.0.1"):
        self.auth = auth
        self.manifests = {}    # (name, tag or digest) -> bytes
        self.blobs = {}        # (name, digest) -> bytes
        self.cut_after = {}    # digest -> bytes that are sent before the connection ends
        self.cuts = 0          # how many were
        self.asked = []        # "GET /v2/…", in order
        self.tokens = {}       # token -> scope
        self.used = {}         # token -> how often it was
        self.uses = None       # how often a token may be used before it has expired
        self.short = None      # how many tokens do, the first ones; None: all
        self.faults = []       # see fail()
        self.no_digest = False # whether answers lack the header with the digest
        self.over = threading.Event()
        self.lock = threading.Lock()
        registry = self

        class Handler(_Handler):
            pass
        Handler.registry = self

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request, address):
                pass  # clients go away as they like
        self.server = Server((address, 0), Handler)
        self.port = self.server.server_address[1]
        self.host = f"{address}:{self.port}"
        self.thread = threading.Thread(target=registry.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()

    def push(self, name, tag, image, wrong_layer=False, cut_after=None):
        """Returns the digest of the manifest. wrong_layer: the layer's bytes are others than its digest says."""
        manifest, blobs = image.manifest()
        digest = sha256(manifest)
        layer = json.loads(manifest)["layers"][0]["digest"]
        with self.lock:
            self.manifests[name, tag] = self.manifests[name, digest] = manifest
            for key, data in blobs.items():
                self.blobs[name, key] = data[:-1] + bytes([data[-1] ^ 1]) if wrong_layer and key == layer else data
            if cut_after is not None:
                self.cut_after[layer] = cut_after
        return digest

    def push_index(self, name, tag, images):
        """A manifest list: images by architecture. Returns its digest."""
        entries = []
        for architecture, image in images.items():
            digest = self.push(name, "for-" + architecture, image)
            entries.append({"mediaType": MANIFEST, "size": len(self.manifests[name, digest]), "digest": digest, "platform": {"architecture": architecture, "os": "linux"}})
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
        digest = sha256(index)
        with self.lock:
            self.manifests[name, tag] = self.manifests[name, digest] = index
        return digest

    def fail(self, what, status, times=None, code="UNKNOWN", message="told to fail", **headers):
        """Requests for `what` (ping, manifests, blobs or token) get this status, or no answer at all if it is 0; the first `times` of them.
        code None: as a proxy answers that knows nothing of registries."""
        with self.lock:
            self.faults.append({"what": what, "status": status, "left": times, "code": code, "message": message, "headers": headers})

    def fault_for(self, what):
        with self.lock:
            for fault in self.faults:
                if fault["what"] == what and fault["left"] != 0:
                    if fault["left"] is not None:
                        fault["left"] -= 1
                    return fault
        return None

    def count(self, what):
        """How often `what` was asked for with GET or HEAD."""
        with self.lock:
            return sum(f"/{what}/" in line or line.endswith("/" + what) for line in self.asked)

    def docker_config(self, user=USER, password=PASSWORD):
        """What `docker login` leaves in ~/.docker/config.json."""
        return json.dumps({"auths": {self.host: {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}}})


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry = None

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", kind="application/json", **headers):
        self.send_response(status)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status, code, message, **headers):
        self.answer(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), **headers)

    def fails(self, what):
        """Whether this request was to fail, and has."""
        fault = self.registry.fault_for(what)
        if fault is None:
            return False
        if fault["status"] == 0:
            self.registry.over.wait(3600)
            self.close_connection = True
        elif fault["code"] is None:
            self.answer(fault["status"], f"<html>{fault['message']}</html>".encode(), "text/html")
        else:
            self.error(fault["status"], fault["code"], fault["message"], **fault["headers"])
        return True

    def basic(self):
        kind, _, word = self.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "basic":
            return None
        user, _, password = base64.b64decode(word).decode().partition(":")
        return (user, password) == (USER, PASSWORD)

    def allowed(self, name):
        """Whether it may be read; else the answer was sent."""
        registry = self.registry
        if registry.auth is None:
            return True
        if registry.auth == "basic":
            if self.basic():
                return True
            self.error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate='Basic realm="tests"')
            return False
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        scope = registry.tokens.get(token)
        if kind.lower() == "bearer" and scope is not None and (name == "" or scope == name):
            if registry.uses is not None:
                with registry.lock:
                    used = registry.used[token] = registry.used.get(token, 0) + 1
                    number = list(registry.tokens).index(token)
                if used > registry.uses and (registry.short is None or number < registry.short):
                    self.error(401, "UNAUTHORIZED", "token has expired", WWW_Authenticate=f'Bearer realm="http://{registry.host}/token",service="tests",scope="repository:{name}:pull",error="invalid_token"')
                    return False
            return True
        challenge = f'Bearer realm="http://{registry.host}/token",service="tests"' + (f',scope="repository:{name}:pull"' if name else "")
        self.error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
        return False

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        # A token may be asked for by POST as well; that it is not there sends clients to GET.
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.error(404, "NOT_FOUND", "not here")

    def do_GET(self):
        registry = self.registry
        url = urllib.parse.urlsplit(self.path)
        with registry.lock:
            registry.asked.append(f"{self.command} {url.path}")
        if url.path == "/token" and registry.auth == "token":
            if self.fails("token"):
                return None
            query = urllib.parse.parse_qs(url.query)
            good = self.basic()
            if not good:
                return self.error(401, "UNAUTHORIZED", "incorrect username or password", WWW_Authenticate='Basic realm="tests"')
            if query.get("service") != ["tests"]:
                return self.error(400, "UNSUPPORTED", "another service")
            scope = (query.get("scope") or [""])[0]
            token = secrets.token_hex(8)
            with registry.lock:
                registry.tokens[token] = scope.split(":")[1] if scope else ""
            return self.answer(200, json.dumps({"token": token, "access_token": token, "expires_in": 300}).encode())
        if url.path == "/v2/":
            if self.fails("ping"):
                return None
            return self.answer(200, b"{}") if self.allowed("") else None
        found = re.fullmatch(r"/v2/(?P<name>[a-z0-9/._-]+)/(?P<what>manifests|blobs)/(?P<reference>[A-Za-z0-9_.:-]+)", url.path)
        if not found:
            return self.error(404, "UNSUPPORTED", "no such path")
        name, reference = found["name"], found["reference"]
        if not self.allowed(name):
            return None
        if self.fails(found["what"]):
            return None
        if found["what"] == "manifests":
            manifest = registry.manifests.get((name, reference))
            if manifest is None:
                return self.error(404, "MANIFEST_UNKNOWN", "manifest unknown")
            accepted = ",".join(self.headers.get_all("Accept") or [])
            kind = json.loads(manifest)["mediaType"]
            if kind not in accepted and "*/*" not in accepted:
                return self.error(404, "MANIFEST_UNKNOWN", f"only as {kind}")
            return self.answer(200, manifest, kind, **({} if registry.no_digest else {"Docker_Content_Digest": sha256(manifest)}))
        if not DIGEST.match(reference):
            return self.error(400, "DIGEST_INVALID", "no digest")
        data = registry.blobs.get((name, reference))
        if data is None:
            return self.error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        most = registry.cut_after.get(reference)
        if most is not None and self.command == "GET":
            with registry.lock:
                registry.cuts += 1
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:most])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        return self.answer(200, data, "application/octet-stream", Docker_Content_Digest=reference)

"""Images from registries that hang or are gone, and images whose digests `jobc lock` has pinned."""
import json
import signal
import socket
import time

import daemons
import images
import registry
import services
import story

VARIABLE = {"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST"}


def own_address():
    """Of this machine, in some network that is not loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = probe.getsockname()[0]
    return None if address.startswith("127.") else address


class Pulls(story.Story, services.Case):
    count = 0

    def registries(self, make):
        """An engine of this test alone, and registries that it takes for such by what they ask of users."""
        self.stores = {auth: self.enterContext(registry.Registry(auth)) for auth in (None, "basic", "token")}
        self.at_engine = self.own_engine(lambda: make([store.port for store in self.stores.values()]))

    def environment(self, **more):
        return super().environment(**{VARIABLE[self.at_engine.name]: self.at_engine.host, **more})

    def fresh(self, store, **how):
        """The name of an image that nobody has pulled yet. The registry behaves again."""
        Pulls.count += 1
        store.faults.clear()
        store.asked.clear()
        store.tokens.clear()
        store.uses = store.short = None
        name = f"team/tool{Pulls.count}"
        image = images.unlike(f"{self.id()} {Pulls.count}", 1 << 14)
        if "index" in how:
            store.push_index(name, "1", {how["index"]: image})
        elif how.get("there", True):
            store.push(name, "1", image, **how)
        return f"{store.host}/{name}:1"

    def refused(self, image, kind, *parts, submissions=1):
        done = self.run_it(image, code=10, words="submit { max_attempts = 2, backoff = exponential(10ms, max = 10ms, factor = 2) } retry { max_attempts = 2 }")
        self.assertEqual([one["kind"] for one in self.instances()["a"]["attempts"]], [kind] * submissions, str(done))
        self.assertEqual("submission 2" in done.err, submissions == 2, str(done))
        self.assertSays(done.err, image, *parts)
        self.assertNotIn("internal", done.err)
        return done

    def is_forbidden(self):
        """403, as a registry says it and as a proxy does: nobody but a person can mend that."""
        plain, name = self.stores[None], self.at_engine.name
        for code, message in (("DENIED", "requested access to the resource is denied"), (None, "Forbidden")):
            image = self.fresh(plain)
            plain.fail("manifests", 403, code=code, message=message)
            self.refused(image, "auth", "forbids", f"{name} login {plain.host}")
            self.assertLessEqual(plain.count("manifests"), 2)
        image = self.fresh(plain)
        plain.fail("blobs", 403, code="DENIED", message="requested access to the resource is denied")
        self.refused(image, "auth", "forbids")

    def a_token_ends(self):
        """Half of the image has come when the token ends: the next submission gets a new one. Without credentials, or with wrong
        ones, it is none that could get better."""
        store = self.stores["token"]
        image = self.fresh(store)
        self.refused(image, "auth", "login")
        config = self.home / ".docker"
        config.mkdir(exist_ok=True)
        (config / "config.json").write_text(store.docker_config())
        image = self.fresh(store)
        store.uses, store.short = 2, 1
        done = self.run_it(image)
        self.assertSays(done.err, "as it does when its token ends", "submission 2")
        image = self.fresh(store)
        store.uses = 2  # every one of them
        self.refused(image, "network", "as it does when its token ends", submissions=2)

    def speaks_no_tls(self):
        """Where TLS is expected: of docker not on loopback, which it takes for safe; of podman everywhere."""
        address = own_address()
        if address is None and self.at_engine.name == "docker":
            self.skip("this machine has no address but those of loopback")
        with registry.Registry(address=address or "127.0.0.1") as store:
            store.push("team/tool", "1", images.busybox())
            image = f"{store.host}/team/tool:1"
            self.refused(image, "image", "speaks HTTP", *((f'"insecure-registries": ["{store.host}"]', "daemon.json") if self.at_engine.name == "docker" else (f'location = "{store.host}"', "insecure = true", "registries.conf")))

    def run_it(self, image, code=0, words="submit { max_attempts = 2 }", backend=""):
        self.write(f'edition = 1\nprofile box default {{ backend = {self.at_engine.name} {{ network = "none"{backend} }}, image = "{image}" }}\njob a {{ {words} run = ["true"] }}\n')
        done = self.jobc("run", "a.job", code=code, timeout=120)
        self.assertEqual(self.at_engine.containers(), [], "no container is left")
        return done

    def hangs(self):
        """Nothing comes, and nothing ends: a limit or a person ends it."""
        plain = self.stores[None]
        image = self.fresh(plain)
        plain.fail("manifests", 0)
        done = self.run_it(image, code=10, words="timeout { queue = 1s }")
        self.assertEqual(self.instances()["a"]["kind"], "queue_timeout", str(done))
        self.write(f'edition = 1\nprofile box default {{ backend = {self.at_engine.name} {{ network = "none" }}, image = "{self.fresh(plain)}" }}\njob a {{ run = ["true"] }}\n')
        plain.fail("manifests", 0)
        process = self.start("run", "a.job")
        story.wait_until(lambda: plain.count("manifests") > 0, 30, "the engine to ask")
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        self.finish(process, code=130)
        self.assertLess(time.monotonic() - begin, 20)

    def locked(self):
        """A run uses the content that is locked, also when the tag has moved."""
        plain = self.stores[None]
        image = self.fresh(plain)
        self.write(f'edition = 1\nprofile box default {{ backend = {self.at_engine.name} {{ network = "none", pull = always }}, image = "{image}" }}\njob a {{ run = ["sha256sum", "/data"] output {{ sum: String = stdout() }} }}\nexport {{ sum: String = a.sum }}\n')
        self.jobc("lock")
        first = self.jobc("run", "a.job").json
        plain.push(image.split("/", 1)[1].rsplit(":", 1)[0], "1", images.unlike("another " + image, 1 << 14))
        self.assertEqual(self.jobc("run", "a.job").json, first)
        self.jobc("lock", "--update", "all")
        self.assertNotEqual(self.jobc("run", "a.job").json, first)

    def the_digest_of_an_engine(self):
        """A registry that is gone: what was pulled from it is locked as it is here."""
        with registry.Registry() as gone:
            self.at_engine = self.own_engine(daemons.Docker)
            digest = gone.push("team/tool", "1", images.unlike("gone", 1 << 14))
            image = f"{gone.host}/team/tool:1"
            self.run_it(image)
        done = self.jobc("lock")
        self.assertSays(done.err, f"the digest of `{image}` is that of the docker engine of this machine", "cannot be reached", f"added {image}")
        self.assertEqual(json.loads((self.at / "job.lock").read_text())["images"], {image: digest})

    def test_a_registry_that_is_gone(self):
        self.the_digest_of_an_engine()

    def of(self, make):
        self.registries(make)
        for part in (self.hangs, self.locked, self.is_forbidden, self.a_token_ends, self.speaks_no_tls):
            with self.subTest(part.__name__):
                part()

    def test_docker(self):
        self.of(lambda ports: daemons.Docker())

    def test_podman(self):
        self.of(lambda ports: daemons.Podman(registries=ports))


if __name__ == "__main__":
    services.main()

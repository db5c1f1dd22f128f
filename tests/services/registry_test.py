"""The registry of the tests' own is one for both engines: they pull from it by tag and by digest, with and without credentials, and
refuse what they should refuse."""
import base64
import json
import urllib.parse

import daemons
import images
import registry
import services


class Pulls(services.Case):
    def pull(self, engine, image, auth=None):
        """(whether it is there then, what was said)"""
        headers = {}
        if auth:
            headers["X-Registry-Auth"] = base64.urlsafe_b64encode(json.dumps({"username": auth[0], "password": auth[1]}).encode()).decode()
        name, _, reference = image.rpartition("@") if "@" in image else image.rpartition(":")
        answer = engine.api("POST", "/images/create?" + urllib.parse.urlencode({"fromImage": name, "tag": reference}), headers=headers)
        there = engine.api("GET", f"/images/{urllib.parse.quote(image, safe='')}/json").status == 200
        return there, answer.body.decode(errors="replace")

    def pulls(self, engine_of):
        image = images.busybox()
        for auth in (None, "basic", "token"):
            with self.subTest(auth=auth), registry.Registry(auth) as store:
                engine = engine_of(store)
                digest = store.push("team/tool", "1", image)
                right = (registry.USER, registry.PASSWORD) if auth else None
                if auth:
                    self.assertFalse(self.pull(engine, store.host + "/team/tool:1", (registry.USER, "wrong"))[0])
                    self.assertFalse(self.pull(engine, store.host + "/team/tool:1")[0])
                there, said = self.pull(engine, store.host + "/team/tool:1", right)
                self.assertTrue(there, said)
                store.push("team/other", "2", image)
                there, said = self.pull(engine, store.host + "/team/other@" + digest, right)
                self.assertTrue(there, said)
                self.assertFalse(self.pull(engine, store.host + "/team/none:1", right)[0])
                store.push("team/bad", "1", images.unlike("bad", 1 << 12), wrong_layer=True)
                self.assertFalse(self.pull(engine, store.host + "/team/bad:1", right)[0])
                if auth is None:
                    store.push("team/cut", "1", images.unlike("cut", 1 << 16), cut_after=5000)
                    self.assertFalse(self.pull(engine, store.host + "/team/cut:1", right)[0])
                    self.assertGreater(store.cuts, 0)

    def test_docker_pulls(self):
        docker = self.own_engine(daemons.Docker)
        self.pulls(lambda store: docker)

    def test_podman_pulls(self):
        def fresh(store):
            return self.own_engine(lambda: daemons.Podman(registries=[store.port]))
        self.pulls(fresh)


if __name__ == "__main__":
    services.main()

"""Engines that are reached by TCP with TLS: a dockerd of the tests' own with certificates of their own, as `DOCKER_HOST` with
`DOCKER_TLS_VERIFY` and as a context; and all that can be wrong with certificates, each told with what to do."""
import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest

import daemons
import images
import services
import story

JOB = f"""edition = 1
profile box default {{{{ backend = docker {{{{ network = "none" {{options}} }}}}, image = "{images.PREFIX}busybox:1" }}}}
job a {{{{ script = <<~SH
    echo "by tls"; printf '{{{{"n": 7}}}}' > $JOB_RESULT
  SH
  output {{{{ n: Int }}}} }}}}
export {{{{ n: Int = a.n }}}}
"""


class Authority:
    """Certificates in a directory: `NAME.pem` and `NAME-key.pem`."""

    def __init__(self, directory):
        self.directory = directory

    def openssl(self, *words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self.directory)

    def _request(self, name):
        return ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}-key.pem", "-subj", f"/CN={name}"]

    def authority(self, name):
        self.openssl(*self._request(name), "-x509", "-days", "2", "-out", f"{name}.pem")

    def certificate(self, name, signed_by, use, names="", days="2"):
        """names: of a server, as subjectAltName has them. days: may lie in the past."""
        self.openssl(*self._request(name), "-out", f"{name}.csr")
        pathlib.Path(self.directory, "ext").write_text(f"extendedKeyUsage={use}\n" + (f"subjectAltName={names}\n" if names else ""))
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{signed_by}.pem", "-CAkey", f"{signed_by}-key.pem", "-CAcreateserial", "-days", days, "-extfile", "ext", "-out", f"{name}.pem")


class Certificates(story.Story, services.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not shutil.which("openssl"):
            raise unittest.SkipTest("openssl is not installed")
        cls.certificates = tempfile.mkdtemp(prefix="jobc-tls-")
        cls.addClassCleanup(shutil.rmtree, cls.certificates)
        authority = Authority(cls.certificates)
        for name in ("ca", "other"):
            authority.authority(name)
        authority.certificate("server", "ca", "serverAuth", "IP:127.0.0.1")
        authority.certificate("misnamed", "ca", "serverAuth", "DNS:engine.example.org")
        authority.certificate("stale", "ca", "serverAuth", "IP:127.0.0.1", days="-1")
        authority.certificate("client", "ca", "clientAuth")
        authority.certificate("stranger", "other", "clientAuth")
        authority.certificate("expired", "ca", "clientAuth", days="-1")

    def setUp(self):
        super().setUp()
        self.write(JOB.format(options=""))

    def path(self, ca="ca", client="client", key=None):
        """A directory as DOCKER_CERT_PATH is, in the home of the story."""
        directory = self.home / "certs"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for name, source in (("ca", ca), ("cert", client), ("key", (key or client) + "-key" if client or key else "")):
            if source:
                shutil.copy(f"{self.certificates}/{source}.pem", directory / f"{name}.pem")
        return directory

    def run_with(self, directory, code=0, verify="1", host=None):
        env = {"DOCKER_HOST": host or self.docker.tcp, "DOCKER_CERT_PATH": str(directory)}
        if verify:
            env["DOCKER_TLS_VERIFY"] = verify
        done = self.jobc("run", "a.job", code=code, env=env)
        if code != 0:
            self.assertIn(env["DOCKER_HOST"], done.err)
            # The same reason, found before a run.
            told = self.jobc("doctor", "docker", env=env, code=None)
            self.assertNotEqual(told.code, 0, str(told))
            done.doctor = told.out + told.err
        return done


class Tls(Certificates):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        try:
            cls.docker = daemons.Docker(tls=cls.certificates).__enter__()
        except daemons.Missing as missing:
            raise unittest.SkipTest(str(missing))
        cls.addClassCleanup(cls.docker.remove)
        cls.docker.load(images.busybox())

    def test_certificates_by_environment(self):
        self.assertEqual(self.run_with(self.path()).json, {"n": 7})
        self.assertEqual(self.jobc("logs", "a").out, "by tls\n")
        self.assertEqual(self.docker.containers(), [])
        env = {"DOCKER_HOST": self.docker.tcp, "DOCKER_CERT_PATH": str(self.path()), "DOCKER_TLS_VERIFY": "1"}
        self.assertIn(self.docker.tcp, self.jobc("doctor", "docker", env=env, code=None).out)
        self.assertIn("nothing to remove", self.jobc("gc", env=env).out)

    def test_certificates_of_the_configuration_directory(self):
        """Without DOCKER_CERT_PATH, as with the docker tool."""
        self.path().rename(self.home / ".docker")
        self.assertEqual(self.jobc("run", "a.job", env={"DOCKER_HOST": self.docker.tcp, "DOCKER_TLS_VERIFY": "1"}).json, {"n": 7})

    def context(self, name, **more):
        digest = hashlib.sha256(name.encode()).hexdigest()
        meta = self.home / ".docker" / "contexts" / "meta" / digest
        meta.mkdir(parents=True)
        (meta / "meta.json").write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": self.docker.tcp, "SkipTLSVerify": False, **more}}}))
        tls = self.home / ".docker" / "contexts" / "tls" / digest
        tls.mkdir(parents=True)
        return tls / "docker"

    def test_a_context(self):
        self.path().rename(self.context("far"))
        self.write(JOB.format(options=', context = "far"'))
        self.assertEqual(self.jobc("run", "a.job").json, {"n": 7})
        self.write(JOB.format(options=""))
        (self.home / ".docker" / "config.json").write_text('{"currentContext": "far"}')
        self.assertEqual(self.jobc("run", "a.job").json, {"n": 7})

    def test_a_context_that_does_not_look_at_the_engines_certificate(self):
        self.path(ca="").rename(self.context("far", SkipTLSVerify=True))
        self.assertEqual(self.jobc("run", "a.job", env={"DOCKER_CONTEXT": "far"}).json, {"n": 7})

    def test_a_context_with_an_authority_of_somebody_else(self):
        self.path(ca="other").rename(self.context("far"))
        done = self.jobc("run", "a.job", env={"DOCKER_CONTEXT": "far"}, code=14)
        self.assertSays(done.err, "the context `far`", "not signed by the authority", "ca.pem")

    def test_the_authority_is_another(self):
        directory = self.path(ca="other")
        done = self.run_with(directory, code=14)
        self.assertSays(done.err, "not signed by the authority that this user knows", f"Copy the engine's own ca.pem to {directory}/ca.pem")
        self.assertSays(done.doctor, "not signed by the authority", f"{directory}/ca.pem")

    def test_no_authority(self):
        directory = self.path(ca="")
        self.assertSays(self.run_with(directory, code=14).err, f"{directory}/ca.pem cannot be read", "DOCKER_CERT_PATH")

    def test_no_certificate_of_the_client(self):
        directory = self.path(client="")
        done = self.run_with(directory, code=14)
        self.assertSays(done.err, "want a certificate of their client", f"{directory}/cert.pem", f"{directory}/key.pem")
        self.assertSays(done.doctor, "want a certificate of their client")

    def test_half_a_certificate_of_the_client(self):
        directory = self.path()
        (directory / "key.pem").unlink()
        self.assertSays(self.run_with(directory, code=14).err, f"{directory}/cert.pem is there, {directory}/key.pem is not")

    def test_a_key_of_another_certificate(self):
        directory = self.path(key="stranger")
        self.assertSays(self.run_with(directory, code=14).err, "cannot be used", f"{directory}/key.pem", "of one pair")

    def test_a_client_that_the_engine_does_not_know(self):
        for name in ("stranger", "expired"):
            done = self.run_with(self.path(client=name), code=14)
            self.assertSays(done.err, "do not accept the certificate of their client", "openssl x509 -noout -issuer -dates -in", "cert.pem")
            self.assertSays(done.doctor, "do not accept the certificate")

    def test_plain_http_to_a_port_of_tls(self):
        done = self.run_with(self.path(), verify="", code=14)
        self.assertSays(done.err, "it speaks TLS only", "export DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=")
        self.assertSays(done.doctor, "it speaks TLS only", "DOCKER_TLS_VERIFY=1")

    def test_tls_to_a_port_of_plain_http(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            def answer():
                while True:
                    try:
                        connection, _ = server.accept()
                    except OSError:
                        return
                    with connection:
                        connection.recv(1000)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            threading.Thread(target=answer, daemon=True).start()
            done = self.run_with(self.path(), host=f"tcp://127.0.0.1:{server.getsockname()[1]}", code=14)
            server.shutdown(socket.SHUT_RDWR)
        self.assertSays(done.err, "does not speak TLS", "unset DOCKER_TLS_VERIFY")


class CertificatesOfTheEngine(Certificates):
    """Certificates of the engine that are no good, each for an engine of its own."""

    def of(self, server):
        directory = tempfile.mkdtemp(prefix="jobc-tls-", dir=self.certificates)
        for name, source in (("ca", "ca"), ("server", server), ("server-key", f"{server}-key")):
            shutil.copy(f"{self.certificates}/{source}.pem", f"{directory}/{name}.pem")
        engine = self.own_engine(lambda: daemons.Docker(tls=directory))
        return self.run_with(self.path(), host=engine.tcp, code=14)

    def test_it_is_for_another_name(self):
        done = self.of("misnamed")
        self.assertSays(done.err, "its certificate is for another name", "openssl s_client -connect 127.0.0.1:", "subjectAltName")
        self.assertSays(done.doctor, "for another name")

    def test_it_has_expired(self):
        done = self.of("stale")
        self.assertSays(done.err, "its certificate has expired", "`date`")
        self.assertSays(done.doctor, "has expired")


if __name__ == "__main__":
    services.main()

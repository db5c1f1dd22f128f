// Where an engine is, and the credentials for registries: from the files and variables that `docker` and `podman` use.
#include "backends/docker/endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <map>

#include "backends/docker/credentials.h"
#include "support/sha256.h"

namespace jobc::docker {
namespace {

using ::testing::HasSubstr;
constexpr auto kDocker = ir::BackendKind::Docker;
constexpr auto kPodman = ir::BackendKind::Podman;

struct Fake {
  std::map<std::string, std::string> env, files;
  uid_t uid = 1000;
  Surroundings Make() {
    Surroundings out;
    out.env = [this](const std::string& name) { return env.count(name) != 0 && !env[name].empty() ? std::optional(env[name]) : std::nullopt; };
    out.read = [this](const std::string& path) { return files.count(path) != 0 ? std::optional(files[path]) : std::nullopt; };
    out.uid = uid;
    return out;
  }
  std::string Find(ir::BackendKind kind, const std::string& host = "", const std::string& context = "") {
    auto found = FindEndpoint(kind, host, context, Make());
    return found ? found->unix_socket + "|" + found->base_url + "|" + found->origin : "error: " + found.error().message;
  }
};

TEST(Endpoint, TheFirstOneThatSaysSomething) {
  Fake fake{{{"HOME", "/home/a"}}, {}};
  EXPECT_EQ(fake.Find(kDocker), "/var/run/docker.sock|http://engine|");
  const std::string digest = Sha256Hex("lab");
  fake.files["/home/a/.docker/contexts/meta/" + digest + "/meta.json"] = R"({"Name":"lab","Endpoints":{"docker":{"Host":"unix:///lab.sock","SkipTLSVerify":false}}})";
  fake.files["/home/a/.docker/config.json"] = R"({"currentContext":"lab"})";
  EXPECT_EQ(fake.Find(kDocker), "/lab.sock|http://engine|the context `lab`");
  fake.env["DOCKER_CONTEXT"] = "default";
  EXPECT_EQ(fake.Find(kDocker), "/var/run/docker.sock|http://engine|");
  fake.env["DOCKER_CONTEXT"] = "lab";
  EXPECT_EQ(fake.Find(kDocker), "/lab.sock|http://engine|the context `lab`");
  fake.env["DOCKER_HOST"] = "unix:///env.sock";
  EXPECT_EQ(fake.Find(kDocker), "/env.sock|http://engine|`DOCKER_HOST`");
  EXPECT_EQ(fake.Find(kDocker, "", "lab"), "/lab.sock|http://engine|the context `lab`");
  EXPECT_EQ(fake.Find(kDocker, "", "default"), "/var/run/docker.sock|http://engine|");
  EXPECT_EQ(fake.Find(kDocker, "/opt.sock", "lab"), "/opt.sock|http://engine|the option `host`");
  EXPECT_THAT(fake.Find(kDocker, "", "gone"), HasSubstr("chooses the context `gone`, which is not there; see `docker context ls`"));
}

TEST(Endpoint, OfPodman) {
  Fake fake{{{"HOME", "/home/a"}, {"DOCKER_HOST", "unix:///docker.sock"}}, {}};
  EXPECT_EQ(fake.Find(kPodman), "/run/user/1000/podman/podman.sock|http://engine|");
  fake.env["XDG_RUNTIME_DIR"] = "/run/me";
  EXPECT_EQ(fake.Find(kPodman), "/run/me/podman/podman.sock|http://engine|");
  fake.uid = 0;
  EXPECT_EQ(fake.Find(kPodman), "/run/podman/podman.sock|http://engine|");
  fake.env["CONTAINER_HOST"] = "unix:///x.sock";
  EXPECT_EQ(fake.Find(kPodman), "/x.sock|http://engine|`CONTAINER_HOST`");
}

TEST(Endpoint, Addresses) {
  Fake fake{{{"HOME", "/home/a"}}, {}};
  auto host = [&](const char* text) { return fake.Find(kDocker, text); };
  EXPECT_EQ(host("tcp://box:1234"), "|http://box:1234|the option `host`");
  EXPECT_EQ(host("tcp://box"), "|http://box:2375|the option `host`");
  EXPECT_EQ(host("tcp://[::1]"), "|http://[::1]:2375|the option `host`");
  EXPECT_EQ(host("https://box/"), "|https://box:2376|the option `host`");
  EXPECT_EQ(host("box:1"), "|http://box:1|the option `host`");

  EXPECT_THAT(host("npipe:////./pipe/x"), HasSubstr("known are unix://"));
  EXPECT_THAT(host("unix://rel.sock"), HasSubstr("a socket is `unix:///PATH`"));
  EXPECT_THAT(host(("unix:///" + std::string(120, 'x')).c_str()), HasSubstr("at most 107 bytes"));
  EXPECT_THAT(host("tcp://"), HasSubstr("no host"));
  fake.env["DOCKER_TLS_VERIFY"] = "1";
  fake.env["DOCKER_CERT_PATH"] = "/certs";
  fake.files = {{"/certs/ca.pem", "x"}, {"/certs/cert.pem", "x"}, {"/certs/key.pem", "x"}};
  fake.env["DOCKER_HOST"] = "tcp://box";
  auto found = FindEndpoint(kDocker, "", "", fake.Make());
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->base_url, "https://box:2376");
  EXPECT_EQ(found->tls.ca, "/certs/ca.pem");
  EXPECT_EQ(found->tls.key, "/certs/key.pem");
  EXPECT_TRUE(found->tls.verify);
  EXPECT_EQ(found->certificates, "/certs");
  fake.files.erase("/certs/key.pem");
  EXPECT_THAT(fake.Find(kDocker), HasSubstr("/certs/cert.pem is there, /certs/key.pem is not"));
  fake.files = {};
  EXPECT_THAT(fake.Find(kDocker), HasSubstr("/certs/ca.pem cannot be read"));
  fake.env.erase("DOCKER_TLS_VERIFY");
  EXPECT_EQ(fake.Find(kDocker), "|http://box:2375|`DOCKER_HOST`");
}

TEST(Endpoint, BySsh) {
  Fake fake{{{"HOME", "/home/a"}}, {}};
  auto find = [&](ir::BackendKind kind, const std::string& host) {
    auto found = FindEndpoint(kind, host, "", fake.Make());
    if (!found) return "error: " + found.error().message;
    if (!found->ssh) return std::string("no ssh");
    return found->ssh->destination + "|" + found->ssh->port + "|" + found->ssh->identity + "|" + found->ssh->remote_socket + "|" + found->unix_socket;
  };
  EXPECT_EQ(find(kDocker, "ssh://box"), "box|||/var/run/docker.sock|");
  EXPECT_EQ(find(kDocker, "ssh://me@box:2222/"), "me@box|2222||/var/run/docker.sock|");
  EXPECT_EQ(find(kDocker, "ssh://me@[fe80::1]:22/run/d.sock"), "me@fe80::1|22||/run/d.sock|");
  EXPECT_EQ(find(kPodman, "ssh://root@box/run/podman/podman.sock"), "root@box|||/run/podman/podman.sock|");
  fake.env["CONTAINER_HOST"] = "ssh://core@box:22/run/user/1000/podman/podman.sock";
  fake.env["CONTAINER_SSHKEY"] = "/home/a/key";
  EXPECT_EQ(find(kPodman, ""), "core@box|22|/home/a/key|/run/user/1000/podman/podman.sock|");
  fake.env["DOCKER_HOST"] = "ssh://box";
  EXPECT_EQ(find(kDocker, ""), "box|||/var/run/docker.sock|");
  EXPECT_THAT(find(kPodman, "ssh://box"), HasSubstr("does not say where the service listens there"));
  EXPECT_EQ(find(kDocker, "ssh://me:secret@box"), "error: the option `host` names `ssh://…@box`, which has a password: ssh takes a key or an agent");
  for (const auto& [text, why] : std::map<std::string, std::string>{{"ssh://", "which has no host"}, {"ssh:///run/d.sock", "which has no host"},
                                                                    {"ssh://-oProxyCommand=x", "whose host is no name"}, {"ssh://-l@box", "whose user is no name"}, {"ssh://a b", "whose host is no name"},
                                                                    {"ssh://box:0", "1 to 65535"}, {"ssh://box:x", "1 to 65535"}, {"ssh://box:70000", "1 to 65535"}, {"ssh://[::1", "not closed"},
                                                                    {"ssh://[::1]x", "does not begin with `:`"}, {"ssh://box/a:b", "has a `:` in its path"}}) {
    EXPECT_THAT(find(kDocker, text), AllOf(HasSubstr("the option `host` names `" + text + "`"), HasSubstr(why))) << text;
  }
}

TEST(Endpoint, TroubleWithCertificates) {
  Endpoint there{"tcp://far:2376", "`DOCKER_HOST`", "", "https://far:2376", {}, "/certs"};
  auto say = [&](HttpFailure failure, const char* why, const char* answer = "") {
    auto trouble = TlsTrouble(there, {failure, why, 0}, answer);
    return trouble ? trouble->what + "|" + trouble->help : std::string();
  };
  EXPECT_THAT(say(HttpFailure::Tls, "its certificate is not accepted: SSL certificate problem: self-signed certificate in certificate chain"), HasSubstr("/certs/ca.pem"));
  EXPECT_THAT(say(HttpFailure::Tls, "its certificate is not accepted: SSL: no alternative certificate subject name matches target host name 'far'"), HasSubstr("openssl s_client -connect far:2376"));
  EXPECT_THAT(say(HttpFailure::Tls, "its certificate is not accepted: SSL certificate problem: certificate has expired"), HasSubstr("its certificate has expired"));
  EXPECT_THAT(say(HttpFailure::Tls, "no secure connection: error:0A00010B:SSL routines::wrong version number"), HasSubstr("unset DOCKER_TLS_VERIFY"));
  EXPECT_THAT(say(HttpFailure::Tls, "no secure connection: no common cipher"), HasSubstr("no common cipher"));
  EXPECT_THAT(say(HttpFailure::Cut, "alert bad certificate"), HasSubstr("Put yours into /certs/cert.pem"));
  there.tls.cert = "/certs/cert.pem";
  EXPECT_THAT(say(HttpFailure::Cut, "alert bad certificate"), HasSubstr("openssl x509"));
  EXPECT_EQ(say(HttpFailure::Connect, "connection refused"), "");
  EXPECT_EQ(say(HttpFailure::None, "", "{}"), "");
  there.base_url = "http://far:2376";
  EXPECT_EQ(say(HttpFailure::Cut, "cut"), "");
  EXPECT_THAT(say(HttpFailure::None, "", "Client sent an HTTP request to an HTTPS server."), HasSubstr("export DOCKER_TLS_VERIFY=1"));
}

TEST(Endpoint, CertificatesOfAContext) {
  Fake fake{{{"DOCKER_CONFIG", "/cfg"}}, {}};
  const std::string digest = Sha256Hex("far");
  fake.files["/cfg/contexts/meta/" + digest + "/meta.json"] = R"({"Name":"far","Endpoints":{"docker":{"Host":"tcp://far:2376"}}})";
  fake.files["/cfg/contexts/tls/" + digest + "/docker/ca.pem"] = "x";
  auto found = FindEndpoint(kDocker, "", "far", fake.Make());
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->base_url, "https://far:2376");
  EXPECT_EQ(found->tls.ca, "/cfg/contexts/tls/" + digest + "/docker/ca.pem");
  fake.files["/cfg/contexts/meta/" + digest + "/meta.json"] = "{}";
  EXPECT_THAT(FindEndpoint(kDocker, "", "far", fake.Make()).error().message, HasSubstr("names no docker host"));
}

TEST(Endpoint, SaysWhatToType) {
  Fake fake;
  Endpoint there{"unix:///run/x.sock", "", "/run/x.sock", "http://engine", {}};
  auto say = [&](ir::BackendKind kind, HttpFailure failure, const char* why) { return NoEngineMessage(kind, there, {failure, why, 0}, fake.Make()); };
  EXPECT_THAT(say(kDocker, HttpFailure::Permission, "permission denied"), HasSubstr("sudo usermod -aG docker $USER"));
  EXPECT_THAT(say(kDocker, HttpFailure::Connect, "connection refused"), HasSubstr("sudo systemctl start docker"));
  EXPECT_THAT(say(kPodman, HttpFailure::Connect, "no such file or directory"), HasSubstr("systemctl --user start podman.socket"));
  fake.uid = 0;
  EXPECT_THAT(say(kPodman, HttpFailure::Connect, "no such file or directory"), HasSubstr("  systemctl start podman.socket"));
}

TEST(Credentials, RegistryOfAnImage) {
  EXPECT_EQ(RegistryOf("debian"), "docker.io");
  EXPECT_EQ(RegistryOf("debian:12"), "docker.io");
  EXPECT_EQ(RegistryOf("me/tool:1"), "docker.io");
  EXPECT_EQ(RegistryOf("index.docker.io/me/tool"), "docker.io");
  EXPECT_EQ(RegistryOf("ghcr.io/me/tool@sha256:00"), "ghcr.io");
  EXPECT_EQ(RegistryOf("localhost/x"), "localhost");
  EXPECT_EQ(RegistryOf("localhost:5000/x:1"), "localhost:5000");
  EXPECT_EQ(RegistryOf("box:5000/x"), "box:5000");
}

TEST(Credentials, Base64BothWays) {
  for (std::string text : {"", "f", "fo", "foo", "user:pass:word", "\xff\xfe\xfb?>"}) {
    EXPECT_EQ(FromBase64(Base64(text)), text);
    EXPECT_EQ(FromBase64(Base64(text, true)), text);
  }
  EXPECT_EQ(Base64("user:pass"), "dXNlcjpwYXNz");
  EXPECT_EQ(Base64("\xfb\xff", true), "-_8=");
  EXPECT_FALSE(FromBase64("a b"));
}

TEST(Credentials, FromTheFile) {
  Fake fake{{{"HOME", "/h"}}, {}};
  auto look = [&](const char* image, ir::BackendKind kind = kDocker) {
    CredentialPlace place = LookForCredentials(kind, image, fake.Make());
    if (!place.helper.empty()) return "helper " + place.helper + " " + place.server;
    if (!place.known) return std::string("none");
    return place.known->identity_token.empty() ? place.known->username + "/" + place.known->password : "token " + place.known->identity_token;
  };
  EXPECT_EQ(look("debian"), "none");
  fake.files["/h/.docker/config.json"] = R"({"auths":{"https://index.docker.io/v1/":{"auth":"dXNlcjpwYXNzOndvcmQ="},"localhost:5000":{"username":"u","password":"p"},
      "https://quay.io/v2/":{"auth":"cTpx"},"ghcr.io":{"identitytoken":"tok"},"empty.io":{},"bad.io":{"auth":"***"}}})";
  EXPECT_EQ(look("debian"), "user/pass:word");
  EXPECT_EQ(look("localhost:5000/x:1"), "u/p");
  EXPECT_EQ(look("localhost:5001/x:1"), "none");
  EXPECT_EQ(look("quay.io/a/b"), "q/q");
  EXPECT_EQ(look("ghcr.io/a"), "token tok");
  EXPECT_EQ(look("empty.io/a"), "none");
  EXPECT_EQ(look("bad.io/a"), "none");
  fake.files["/h/.docker/config.json"] = R"({"credsStore":"pass","credHelpers":{"gcr.io":"gcloud"},"auths":{"quay.io":{"auth":"cTpx"}}})";
  EXPECT_EQ(look("debian"), "helper pass https://index.docker.io/v1/");
  EXPECT_EQ(look("gcr.io/a"), "helper gcloud gcr.io");
  EXPECT_EQ(look("quay.io/a"), "q/q");
  fake.files["/h/.docker/config.json"] = "no json";
  EXPECT_EQ(look("debian"), "none");
  fake.files["/run/user/1000/containers/auth.json"] = R"({"auths":{"quay.io/team":{"auth":"dDp0"},"quay.io":{"auth":"cTpx"}}})";
  EXPECT_EQ(look("quay.io/team/x:1", kPodman), "t/t");
  EXPECT_EQ(look("quay.io/other/x:1", kPodman), "q/q");
  EXPECT_EQ(look("quay.io/other/x:1"), "none") << "docker does not read it";
}

TEST(Credentials, AsTheApiWantsThem) {
  auto text = FromBase64(RegistryAuth({"u", "p\"w", "", "ghcr.io"}));
  ASSERT_TRUE(text);
  EXPECT_EQ(*text, R"({"password":"p\"w","serveraddress":"ghcr.io","username":"u"})");
  EXPECT_EQ(*FromBase64(RegistryAuth({"", "", "tok", "ghcr.io"})), R"({"identitytoken":"tok","serveraddress":"ghcr.io"})");
}

TEST(Credentials, AnswersOfHelpers) {
  auto good = ParseHelperAnswer("s", 0, R"({"ServerURL":"s","Username":"u","Secret":"p"})");
  ASSERT_TRUE(good.ok() && *good);
  EXPECT_EQ((*good)->password, "p");
  EXPECT_EQ((*ParseHelperAnswer("s", 0, R"({"Username":"<token>","Secret":"t"})"))->identity_token, "t");
  auto none = ParseHelperAnswer("s", 1, "credentials not found in native keychain\n");
  EXPECT_TRUE(none.ok() && !*none);
  EXPECT_FALSE(ParseHelperAnswer("s", 1, "boom").ok());
  EXPECT_FALSE(ParseHelperAnswer("s", 0, "boom").ok());
}

class HelperTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(uv_loop_init(&loop_), 0);
    char name[] = "/tmp/jobc-helper-XXXXXX";
    dir_ = mkdtemp(name);
    path_ = std::getenv("PATH");
    setenv("PATH", (dir_ + ":" + path_).c_str(), 1);
  }
  void TearDown() override {
    setenv("PATH", path_.c_str(), 1);
    uv_run(&loop_, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&loop_), 0);
    std::system(("rm -rf " + dir_).c_str());
  }
  void Script(const std::string& text) {
    const std::string path = dir_ + "/docker-credential-test";
    std::ofstream(path) << "#!/bin/sh\n" << text;
    chmod(path.c_str(), 0755);
  }
  std::string Ask(uint64_t limit_ms = 30'000) {
    std::string out = "no answer";
    CredentialHelpers helpers(&loop_);
    helpers.Ask({std::nullopt, "test", "ghcr.io"}, [&](Result<std::optional<Credentials>> answer) {
      out = !answer ? "error: " + answer.error().message : *answer ? (*answer)->username + "/" + (*answer)->password : "none";
    }, limit_ms);
    uv_run(&loop_, UV_RUN_DEFAULT);
    return out;
  }
  uv_loop_t loop_;
  std::string dir_, path_;
};

TEST_F(HelperTest, IsAskedByStdin) {
  Script("read server; [ $1 = get ] && printf '{\"ServerURL\":\"x\",\"Username\":\"u\",\"Secret\":\"for %s\"}' $server\n");
  EXPECT_EQ(Ask(), "u/for ghcr.io");
}

TEST_F(HelperTest, SaysThatItKnowsNone) {
  Script("echo credentials not found in native keychain; exit 1\n");
  EXPECT_EQ(Ask(), "none");
}

TEST_F(HelperTest, FailsWithoutHoldingAnythingUp) {
  EXPECT_EQ(Ask(), "error: `docker-credential-test` gave no credentials for ghcr.io: it ended with exit code 127");
  Script("echo secret-word; exit 3\n");
  EXPECT_EQ(Ask(), "error: `docker-credential-test` gave no credentials for ghcr.io: it ended with exit code 3") << "and nothing of what it wrote";
  Script("exec sleep 600\n");
  EXPECT_EQ(Ask(50), "error: `docker-credential-test` gave no credentials for ghcr.io: it gave no answer in time");
}

TEST_F(HelperTest, EndsWithItsOwner) {
  Script("exec sleep 600\n");
  bool answered = false;
  {
    CredentialHelpers helpers(&loop_);
    helpers.Ask({std::nullopt, "test", "ghcr.io"}, [&](Result<std::optional<Credentials>>) { answered = true; });
    uv_run(&loop_, UV_RUN_NOWAIT);
  }
  uv_run(&loop_, UV_RUN_DEFAULT);
  EXPECT_FALSE(answered);
}

}  // namespace
}  // namespace jobc::docker

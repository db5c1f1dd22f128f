// The Engine API as values: bodies that are sent, answers and streams as engines of both kinds gave them, and what their
// errors mean.
#include "backends/docker/engine_api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "ir/json.h"

namespace jobc::docker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

const Flavour& kDocker = FlavourOf(ir::BackendKind::Docker);
const Flavour& kPodman = FlavourOf(ir::BackendKind::Podman);

AttemptLaunch Launch() {
  AttemptLaunch launch;
  launch.id = 7;
  launch.address = "align[\"a b\"]";
  launch.execution_id = "run1-7";
  launch.argv = {"sort", "-u", "~x\"y"};
  launch.env = {"A=1", "B=two words", "C=\"q\"\n"};
  launch.image = "debian:12";
  launch.places.output_dir = "/state/attempts/7/out";
  launch.places.seen.emplace();
  launch.mounts = {{"/state/attempts/7/out", "/jobc/out", false}, {"/data/in:1.txt", "/jobc/stage/in/x/in:1.txt", true}};
  return launch;
}

Json BodyOf(const AttemptLaunch& launch, const Flavour& flavour = kDocker, ContainerPlan plan = {}) {
  ImageInfo image;
  plan.launch = &launch;
  plan.image = &image;
  plan.run_id = "run1";
  plan.state = "0123";
  auto body = CreateBody(plan, flavour);
  EXPECT_TRUE(body.ok()) << (body.ok() ? "" : body.error().message);
  return body.ok() ? Json::parse(*body) : Json();
}

ir::Value JsonOption(std::string_view text) { return *ir::ParseJson(text); }

TEST(CreateBody, HoldsCommandEnvironmentLabelsAndMounts) {
  AttemptLaunch launch = Launch();
  Json body = BodyOf(launch);
  EXPECT_EQ(body["Image"], "debian:12");
  EXPECT_EQ(body["Entrypoint"], Json({"sort"}));
  EXPECT_EQ(body["Cmd"], Json({"-u", "~x\"y"}));
  EXPECT_EQ(body["Env"], Json({"A=1", "B=two words", "C=\"q\"\n"}));
  EXPECT_EQ(body["WorkingDir"], "/jobc/out");
  EXPECT_EQ(body["Labels"]["jobc.run"], "run1");
  EXPECT_EQ(body["Labels"]["jobc.attempt"], "run1-7");
  EXPECT_EQ(body["Labels"]["jobc.instance"], "align[\"a b\"]");
  EXPECT_EQ(body["Labels"]["jobc.state"], "0123");
  EXPECT_FALSE(body["Labels"].contains("jobc.secrets"));
  EXPECT_FALSE(body.contains("User"));
  const Json& host = body["HostConfig"];
  EXPECT_EQ(host["Mounts"][1], Json({{"Type", "bind"}, {"Source", "/data/in:1.txt"}, {"Target", "/jobc/stage/in/x/in:1.txt"}, {"ReadOnly", true}}));
  EXPECT_EQ(host["Mounts"][0]["ReadOnly"], false);
  for (const char* absent : {"Memory", "NanoCpus", "PidsLimit", "DeviceRequests", "NetworkMode", "AutoRemove", "UsernsMode", "Binds"}) EXPECT_FALSE(host.contains(absent)) << absent;
}

TEST(CreateBody, TakesLimits) {
  AttemptLaunch launch = Launch();
  launch.resources.cpu_milli = 1500;
  launch.resources.memory = 64 << 20;
  launch.resources.gpu = 2;
  launch.options = {{"pids", ir::Value::Int(50)}, {"network", ir::Value::String("none")}};
  Json host = BodyOf(launch)["HostConfig"];
  EXPECT_EQ(host["NanoCpus"], 1'500'000'000);
  EXPECT_EQ(host["Memory"], 64 << 20);
  EXPECT_EQ(host["MemorySwap"], 64 << 20) << "the same: no swap on top";
  EXPECT_EQ(host["PidsLimit"], 50);
  EXPECT_EQ(host["NetworkMode"], "none");
  EXPECT_EQ(host["DeviceRequests"], Json::parse(R"([{"Driver":"","Count":2,"Capabilities":[["gpu"]]}])"));
  ContainerPlan plan;
  plan.gpus = {"GPU-1", "GPU-2"};
  EXPECT_EQ(BodyOf(launch, kDocker, plan)["HostConfig"]["DeviceRequests"], Json::parse(R"([{"Driver":"","DeviceIDs":["GPU-1","GPU-2"],"Capabilities":[["gpu"]]}])"));
}

TEST(CreateBody, KeepsTheWholeLog) {
  EXPECT_EQ(BodyOf(Launch())["HostConfig"]["LogConfig"], Json::parse(R"({"Type":"json-file","Config":{"max-size":"1000t","max-file":"1","compress":"false"}})"));
  EXPECT_EQ(BodyOf(Launch(), kPodman)["HostConfig"]["LogConfig"], Json::parse(R"({"Type":"k8s-file"})"));
}

TEST(CreateBody, LeavesTheEntrypointToTheImage) {
  AttemptLaunch launch = Launch();
  launch.image_args = true;
  Json body = BodyOf(launch);
  EXPECT_FALSE(body.contains("Entrypoint"));
  EXPECT_EQ(body["Cmd"], Json({"sort", "-u", "~x\"y"}));
  launch.argv.clear();
  EXPECT_FALSE(BodyOf(launch).contains("Cmd")) << "the image's own";
  ContainerPlan plan;
  plan.command = {"/jobc/init", "--", "/entry", "x"};
  body = BodyOf(launch, kDocker, plan);
  EXPECT_EQ(body["Entrypoint"], Json({"/jobc/init", "--", "/entry", "x"}));
  EXPECT_EQ(body["Cmd"], Json::array());
}

TEST(CreateBody, UserGroupsAndWorkdir) {
  AttemptLaunch launch = Launch();
  launch.options = {{"workdir", ir::Value::String("/srv")}};
  ContainerPlan plan;
  plan.user = "1000:1000";
  plan.groups = {"27", "44"};
  plan.userns = "host";
  Json body = BodyOf(launch, kDocker, plan);
  EXPECT_EQ(body["User"], "1000:1000");
  EXPECT_EQ(body["WorkingDir"], "/srv");
  EXPECT_EQ(body["HostConfig"]["GroupAdd"], Json({"27", "44"}));
  EXPECT_EQ(body["HostConfig"]["UsernsMode"], "host");
}

TEST(CreateBody, TakesMountsOfTheBackend) {
  AttemptLaunch launch = Launch();
  launch.options = {{"mounts", JsonOption(R"({"pip":{"type":"volume","source":"pip-cache","target":"/cache","read_only":false},"ref":{"type":"bind","source":"/srv/ref","target":"/mnt/ref","read_only":true}})")}};
  Json mounts = BodyOf(launch)["HostConfig"]["Mounts"];
  ASSERT_EQ(mounts.size(), 4u);
  EXPECT_EQ(mounts[2], Json::parse(R"({"Type":"volume","Source":"pip-cache","Target":"/cache","ReadOnly":false})"));
  EXPECT_EQ(mounts[3], Json::parse(R"({"Type":"bind","Source":"/srv/ref","Target":"/mnt/ref","ReadOnly":true})"));
}

TEST(CreateBody, MountsNothingOfThisMachineWhereItIsNotSeen) {
  AttemptLaunch launch = Launch();
  launch.mounts = {{"/run/out", "/jobc/out", false}};
  launch.options = {{"mounts", JsonOption(R"({"ref":{"type":"bind","source":"/srv/ref","target":"/mnt/ref","read_only":true}})")}};
  ImageInfo image;
  ContainerPlan plan;
  plan.launch = &launch;
  plan.image = &image;
  plan.copied = true;
  plan.mounts = {{"/state/init", "/jobc/init", true}};
  const Json body = Json::parse(CreateBody(plan, FlavourOf(ir::BackendKind::Docker)).value());
  EXPECT_EQ(body["HostConfig"]["Mounts"], Json::parse(R"([{"Type":"bind","Source":"/srv/ref","Target":"/mnt/ref","ReadOnly":true}])"));
  EXPECT_EQ(body["Volumes"], Json::parse(R"({"/jobc":{}})"));
  EXPECT_EQ(body["Labels"]["jobc.copied"], "1");
}

TEST(Errors, SourceThatIsNotThere) {
  EXPECT_EQ(MissingSource(R"(invalid mount config for type "bind": bind source path does not exist: /srv/a b)"), "/srv/a b");
  EXPECT_EQ(MissingSource("statfs /srv/a: no such file or directory"), "/srv/a");
  EXPECT_EQ(MissingSource("statfs /srv/a: permission denied"), "");
  EXPECT_EQ(MissingSource("no such file or directory"), "");
}

TEST(CreateBody, AddsMembersOfOptions) {
  AttemptLaunch launch = Launch();
  launch.options = {{"options", JsonOption(R"({"ShmSize":1073741824,"CapAdd":["SYS_PTRACE"],"LogConfig":{"Type":"none"},"Mounts":[{"Type":"tmpfs","Target":"/fast"}]})")}};
  Json host = BodyOf(launch)["HostConfig"];
  EXPECT_EQ(host["ShmSize"], 1073741824);
  EXPECT_EQ(host["CapAdd"], Json({"SYS_PTRACE"}));
  EXPECT_EQ(host["LogConfig"]["Type"], "none");
  ASSERT_EQ(host["Mounts"].size(), 3u) << "ours stay";
  EXPECT_EQ(host["Mounts"][2]["Target"], "/fast");
}

TEST(CreateBody, RefusesWhatJobcNeedsForItself) {
  for (const char* text : {R"({"AutoRemove":true})", R"({"RestartPolicy":{"Name":"always"}})", "[1]"}) {
    AttemptLaunch launch = Launch();
    launch.options = {{"options", JsonOption(text)}};
    ContainerPlan plan;
    ImageInfo image;
    plan.launch = &launch;
    plan.image = &image;
    EXPECT_FALSE(CreateBody(plan, kDocker).ok()) << text;
  }
}

TEST(CreateBody, RefusesWhatJsonCannotHold) {
  AttemptLaunch launch = Launch();
  launch.env.push_back("SECRET=\xff\xfe");
  ContainerPlan plan;
  ImageInfo image;
  plan.launch = &launch;
  plan.image = &image;
  auto body = CreateBody(plan, kDocker);
  ASSERT_FALSE(body.ok());
  EXPECT_EQ(body.error().message, "`SECRET` is not UTF-8, which the engine's API cannot carry") << "and the value is not shown";
}

TEST(Facts, ChooseTheVersionOfTheApi) {
  auto api = [](const char* version, const char* most, const char* least) {
    auto facts = ParseFacts(std::string(R"({"Version":")") + version + R"(","ApiVersion":")" + most + R"(","MinAPIVersion":")" + least + "\"}", "{}");
    return facts ? facts->api : facts.error().message;
  };
  EXPECT_EQ(api("20.10.24+dfsg1", "1.41", "1.12"), "/v1.41");
  EXPECT_EQ(api("4.3.1", "1.41", "1.24"), "/v1.41");
  EXPECT_EQ(api("19.03", "1.40", "1.12"), "/v1.40");
  EXPECT_EQ(api("27", "1.47", "1.24"), "/v1.41");
  EXPECT_EQ(api("29", "1.52", "1.44"), "/v1.44");
  EXPECT_EQ(api("17", "1.30", "1.12"), "the engine 17 speaks the API 1.30 only; at least 1.40 (Docker 19.03) is needed");
  EXPECT_FALSE(ParseFacts("<html>", "{}").ok());
  EXPECT_FALSE(ParseFacts("{}", "").ok());
  EXPECT_TRUE(ParseFacts(R"({"Version":"1","ApiVersion":"1.41"})", R"({"SecurityOptions":["name=seccomp,profile=default","name=rootless"]})")->rootless);
  EXPECT_TRUE(ParseFacts(R"({"Version":"1","ApiVersion":"1.41"})", R"({"SecurityOptions":["name=userns"]})")->remapped);
}

TEST(Facts, SayWhatAnEngineEnforces) {
  constexpr const char* kDockerd = R"({"Version":"20.10","ApiVersion":"1.41"})";
  constexpr const char* kPodman43 =
      R"({"Version":"4.3.1","ApiVersion":"1.41","Components":[{"Name":"Podman Engine","Details":{"APIVersion":"4.3.1"}},{"Name":"Conmon","Details":{}}]})";
  EXPECT_EQ(LibpodInfoPath(kPodman43), "/v4.3.1/libpod/info");
  EXPECT_EQ(LibpodInfoPath(kDockerd), "");
  auto limits = [](const char* version, const char* info, const char* libpod) {
    auto facts = ParseFacts(version, info, libpod);
    return facts ? std::string(facts->limits_memory ? "m" : "") + (facts->limits_cpu ? "c" : "") + (facts->limits_pids ? "p" : "") + (facts->rootless ? " rootless" : "") : facts.error().message;
  };
  EXPECT_EQ(limits(kDockerd, R"({"MemoryLimit":true,"CpuCfsQuota":true,"PidsLimit":true})", ""), "mcp");
  EXPECT_EQ(limits(kDockerd, R"({"MemoryLimit":false,"CpuCfsQuota":true,"PidsLimit":true})", ""), "cp");
  EXPECT_EQ(limits(kDockerd, R"({"MemoryLimit":false,"CpuCfsQuota":false,"PidsLimit":false,"CgroupVersion":"1","SecurityOptions":["name=rootless"]})", ""), " rootless");
  EXPECT_EQ(limits(kDockerd, "no answer", ""), "mcp") << "what is not said is not denied";
  // Without root podman 4.3 says in /info what the kernel could do, and nothing of being rootless.
  constexpr const char* kClaims = R"({"MemoryLimit":true,"CpuCfsQuota":true,"PidsLimit":true,"SecurityOptions":["name=seccomp,profile=default"]})";
  EXPECT_EQ(limits(kPodman43, kClaims, R"({"host":{"cgroupVersion":"v1","cgroupControllers":[],"security":{"rootless":true}}})"), " rootless");
  EXPECT_EQ(limits(kPodman43, kClaims, R"({"host":{"cgroupVersion":"v2","cgroupControllers":["memory","pids"],"security":{"rootless":true}}})"), "mp rootless");
  EXPECT_EQ(limits(kPodman43, kClaims, R"({"host":{"cgroupVersion":"v1","cgroupControllers":[],"security":{"rootless":false}}})"), "mcp");
  auto why = ParseFacts(kPodman43, kClaims, R"({"host":{"cgroupVersion":"v1","security":{"rootless":true}}})");
  EXPECT_EQ(why->no_limits, "it is rootless, and such engines have limits only where control groups are of version 2");
  EXPECT_TRUE(why->keeps_ids);
}

TEST(Answers, OfBothEngines) {
  auto image = ParseImage(R"({"Id":"sha256:66","RepoDigests":["ghcr.io/c@sha256:4d","a/b@sha256:4c"],"Config":{"User":"1234","Cmd":["sh"],"Entrypoint":null}})", "a/b:1");
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image->digest, "a/b@sha256:4c");
  EXPECT_EQ(image->user, "1234");
  EXPECT_THAT(image->cmd, ElementsAre("sh"));
  EXPECT_TRUE(image->entrypoint.empty());
  EXPECT_EQ(ParseImage(R"({"Id":"66","Config":{"Entrypoint":["/e","x"]}})", "x")->digest, "sha256:66") << "podman: no prefix; loaded, so without a digest of a registry";
  EXPECT_FALSE(ParseImage("[]", "x").ok());

  auto created = ParseCreated(R"({"Id":"abc","Warnings":["IPv4 forwarding is disabled. Networking will not work."]})");
  ASSERT_TRUE(created);
  EXPECT_EQ(created->warnings.size(), 1u);
  EXPECT_TRUE(ParseCreated(R"({"Id":"abc","Warnings":null})"));
  EXPECT_FALSE(ParseCreated(R"({"message":"x"})"));

  auto state = ParseContainer(R"({"Id":"abc","State":{"Status":"exited","ExitCode":137,"OOMKilled":true,"Error":"","StartedAt":"2026-11-22T06:26:43.5Z","FinishedAt":"2026-11-22T08:26:44.966623528+02:00"},
                                  "Config":{"Labels":{"jobc.run":"r","jobc.attempt":"r-1"}}})");
  ASSERT_TRUE(state);
  EXPECT_TRUE(state->Ended());
  EXPECT_TRUE(state->oom);
  EXPECT_EQ(state->exit_code, 137);
  EXPECT_EQ(state->finished_ms - state->started_ms, 1466) << "zones";
  EXPECT_EQ(state->attempt, "r-1");
  EXPECT_EQ(ParseContainer(R"({"Id":"abc","State":{"Status":"created","FinishedAt":"0001-01-01T00:00:00Z"}})")->finished_ms, 0);
  EXPECT_FALSE(ParseContainer("{}"));

  auto list = ParseContainers(R"([{"Id":"a","State":"running","Labels":{"jobc.attempt":"r-1"}},{"Id":"b","State":"exited","Labels":null},{}])");
  ASSERT_TRUE(list);
  ASSERT_EQ(list->size(), 2u);
  EXPECT_TRUE((*list)[0].Lives());
  EXPECT_EQ((*list)[0].attempt, "r-1");
  EXPECT_FALSE(ParseContainers("{}"));
}

TEST(Answers, Errors) {
  EXPECT_EQ(ErrorMessage("{\"message\":\"No such image: nope/nope:1\"}\n"), "No such image: nope/nope:1");
  EXPECT_EQ(ErrorMessage(R"({"cause":"image not known","message":"no such image: x: image not known","response":404})"), "no such image: x: image not known");
  EXPECT_EQ(ErrorMessage("404 page not found\n"), "404 page not found");
  EXPECT_TRUE(IsNameTaken(409, "Conflict. The container name \"/dup\" is already in use by container \"f2\""));
  EXPECT_TRUE(IsNameTaken(500, "creating container storage: the container name \"dup\" is already in use by 46: that name is already in use"));
  EXPECT_FALSE(IsNameTaken(409, "container is paused"));
}

struct FailureCase {
  Step step;
  int status;
  const char* message;
  ir::ErrorKind kind;
};

TEST(Failures, MeanKinds) {
  using Kind = ir::ErrorKind;
  const FailureCase cases[] = {
      {Step::Create, 404, "No such image: nope/nope:1", Kind::Image},
      {Step::Create, 404, "no such image: docker.io/nope/nope:1: image not known", Kind::Image},
      {Step::Create, 400, "invalid mount config for type \"bind\": bind source path does not exist: /nonexistent", Kind::Staging},
      {Step::Create, 400, "Minimum memory limit allowed is 6MB", Kind::Submit},
      {Step::Create, 500, "write /var/lib/docker/tmp/x: no space left on device", Kind::Staging},
      {Step::Start, 400, "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"no-such\": executable file not found in $PATH: unknown", Kind::Command},
      {Step::Start, 400, "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/etc/passwd\": permission denied: unknown", Kind::Command},
      {Step::Start, 500, "runc: runc create failed: unable to start container process: exec: \"no-such\": executable file not found in $PATH: OCI runtime attempted to invoke a command that was not found", Kind::Command},
      {Step::Start, 409, "runc: runc create failed: unable to start container process: exec: \"/etc/passwd\": permission denied: OCI permission denied", Kind::Command},
      {Step::Start, 400, "unable to find user nobody2: no matching entries in passwd file", Kind::Image},
      {Step::Start, 500, "could not select device driver \"\" with capabilities: [[gpu]]", Kind::Submit},
      {Step::Start, 500, "driver failed programming external connectivity on endpoint", Kind::Submit},
      {Step::Pull, 404, "pull access denied for nope/nope, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", Kind::Image},
      {Step::Pull, 404, "manifest for debian:nope not found: manifest unknown: manifest unknown", Kind::Image},
      {Step::Pull, 0, "initializing source docker://localhost:9/nope:1: reading manifest 1 in localhost:9/nope: manifest unknown", Kind::Image},
      {Step::Pull, 400, "invalid reference format", Kind::Image},
      {Step::Pull, 500, "Get \"http://localhost:9/v2/\": dial tcp 127.0.0.1:9: connect: connection refused", Kind::Network},
      {Step::Pull, 0, "initializing source docker://localhost:9/nope:1: pinging container registry localhost:9: Get \"https://localhost:9/v2/\": dial tcp 127.0.0.1:9: connect: connection refused", Kind::Network},
      {Step::Pull, 0, "unexpected EOF", Kind::Network},
      {Step::Pull, 500, "Head \"https://r/v2/x/manifests/1\": unauthorized: authentication required", Kind::Auth},
      {Step::Pull, 0, "unable to retrieve auth token: invalid username/password: unauthorized: incorrect username or password", Kind::Auth},
      {Step::Layers, 0, "unauthorized: authentication required", Kind::Network},
      {Step::Pull, 0, "error pulling image configuration: download failed after attempts=1: unauthorized: authentication required", Kind::Network},
      {Step::Pull, 0, "reading blob sha256:1e02: unable to retrieve auth token: invalid username/password: errors: unauthorized: authentication required", Kind::Network},
      {Step::Pull, 500, "Head \"https://r/v2/x/manifests/1\": unauthorized: token has expired", Kind::Network},
      {Step::Pull, 0, "failed to register layer: Error processing tar file(exit status 1): write /x: no space left on device", Kind::Staging},
      {Step::Image, 404, "this machine does not have it, and `pull = never` forbids to fetch it", Kind::Image},
  };
  for (const FailureCase& one : cases) {
    Verdict verdict = FailureOf(one.step, one.status, one.message, Launch(), kDocker);
    EXPECT_EQ(ir::KindName(verdict.kind), ir::KindName(one.kind)) << one.message;
    EXPECT_THAT(verdict.message, HasSubstr(one.message));
    EXPECT_FALSE(verdict.success);
  }
}

// What cannot get better is not asked for again, neither as a submission nor as an attempt. The messages are those of dockerd 20.10
// to 28 with its own image store and with containerd's, and of podman 4 and 5.
TEST(Failures, OfAPullThatCannotGetBetterAreFinal) {
  using Kind = ir::ErrorKind;
  const FailureCase cases[] = {
      // A layer, manifest or configuration with other content than its digest says.
      {Step::Pull, 0, "filesystem layer verification failed for digest sha256:1f2d", Kind::Image},
      {Step::Pull, 500, "manifest verification failed for digest sha256:77e1", Kind::Image},
      {Step::Pull, 0, "image config verification failed for digest sha256:77e1", Kind::Image},
      {Step::Pull, 0, "failed commit on ref \"layer-sha256:1f2d\": unexpected commit digest sha256:aaaa, expected sha256:1f2d: failed precondition", Kind::Image},
      {Step::Pull, 0, "failed commit on ref \"layer-sha256:1f2d\": \"layer-sha256:1f2d\" failed size validation: 10 != 12: failed precondition", Kind::Image},
      {Step::Pull, 0, "writing blob: storing blob to file \"/var/tmp/storage1/1\": Digest did not match, expected sha256:1f2d, got sha256:aaaa", Kind::Image},
      {Step::Pull, 500, "copying system image from manifest list: reading blob sha256:1f2d: invalid tar header", Kind::Image},
      {Step::Pull, 0, "parsing image configuration: Download config.json digest sha256:1 does not match expected sha256:2: config digest does not match digest sha256:2", Kind::Image},
      {Step::Pull, 400, "invalid checksum digest length", Kind::Image},
      {Step::Pull, 0, "layers from manifest don't match image configuration: invalid rootfs in image configuration", Kind::Image},
      // It is not there, or not for everybody.
      {Step::Pull, 404, "manifest for localhost:5000/x:2 not found: manifest unknown: manifest unknown", Kind::Image},
      {Step::Pull, 404, "failed to resolve reference \"r/x:2\": r/x:2: not found", Kind::Image},
      {Step::Pull, 500, "initializing source docker://r/x:2: reading manifest 2 in r/x: manifest unknown", Kind::Image},
      {Step::Pull, 500, "initializing source docker://r/x:2: reading manifest 2 in r/x: name unknown: repository name not known to registry", Kind::Image},
      {Step::Pull, 404, "pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", Kind::Image},
      {Step::Pull, 500, "Head \"https://r/v2/x/manifests/1\": unauthorized: authentication required", Kind::Auth},
      {Step::Pull, 500, "Head \"https://r/v2/x/manifests/1\": no basic auth credentials", Kind::Auth},
      {Step::Pull, 500, "initializing source docker://r/x:1: unable to retrieve auth token: invalid username/password: unauthorized: incorrect username or password", Kind::Auth},
      {Step::Pull, 0, "initializing source docker://r/x:1: Requesting bearer token: invalid status code from registry 401 (Unauthorized)", Kind::Auth},
      {Step::Pull, 500, "denied", Kind::Auth},
      {Step::Layers, 0, "error pulling image configuration: download failed after attempts=6: denied", Kind::Auth},
      {Step::Pull, 0, "initializing source docker://r/x:1: reading manifest 1 in r/x: denied", Kind::Auth},
      {Step::Pull, 0, "initializing source docker://r/x:1: pinging container registry r: invalid status code from registry 403 (Forbidden)", Kind::Auth},
      {Step::Pull, 0, "reading manifest 1 in r/x: StatusCode: 403, <html>Forbidden</html>", Kind::Auth},
      {Step::Pull, 500, "error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: \"<html>\"", Kind::Auth},
      {Step::Pull, 500, "failed to resolve reference \"r/x:1\": unexpected status from HEAD request to https://r/v2/x/manifests/1: 403 Forbidden", Kind::Auth},
      // It is for another machine.
      {Step::Pull, 404, "no matching manifest for linux/amd64 in the manifest list entries", Kind::Image},
      {Step::Pull, 0, "no match for platform in manifest: not found", Kind::Image},
      {Step::Pull, 500, "choosing an image from manifest list docker://r/x:1: no image found in manifest list for architecture \"amd64\", variant \"\", OS \"linux\"", Kind::Image},
      {Step::Pull, 500, "choosing an image from manifest list docker://r/x:1: no image found in image index for architecture \"amd64\", variant \"\", OS \"linux\"", Kind::Image},
      {Step::Pull, 0, "image operating system \"windows\" cannot be used on this platform", Kind::Image},
      {Step::Create, 404, "image with reference x:1 was found but does not match the specified platform: wanted linux/arm64, actual: linux/amd64", Kind::Image},
      // It is no image, or no name of one.
      {Step::Pull, 0, "unsupported schema version 1", Kind::Image},
      {Step::Pull, 0, "Encountered remote \"application/vnd.docker.plugin.v1+json\"(unknown) when fetching", Kind::Image},
      {Step::Pull, 400, "invalid reference format: repository name must be lowercase", Kind::Image},
      {Step::Pull, 500, "short-name \"x:1\" did not resolve to an alias and no unqualified-search registries are defined in \"/etc/containers/registries.conf\"", Kind::Image},
      // Nobody trusts its registry.
      {Step::Pull, 500, "Get \"https://r/v2/\": http: server gave HTTP response to HTTPS client", Kind::Image},
      {Step::Pull, 0, "pinging container registry r: Get \"https://r/v2/\": tls: first record does not look like a TLS handshake", Kind::Image},
      {Step::Pull, 500, "Get \"https://r/v2/\": x509: certificate signed by unknown authority", Kind::Image},
      {Step::Image, 404, "this machine does not have it, and `pull = never` forbids to fetch it", Kind::Image},
  };
  for (const FailureCase& one : cases) {
    Verdict verdict = FailureOf(one.step, one.status, one.message, Launch(), kDocker);
    EXPECT_EQ(ir::KindName(verdict.kind), ir::KindName(one.kind)) << one.message;
    EXPECT_TRUE(verdict.no_retry) << one.message;
    EXPECT_THAT(verdict.message, HasSubstr(one.message));
  }
}

TEST(Failures, OfAPullThatMayGetBetterAreNot) {
  using Kind = ir::ErrorKind;
  const FailureCase cases[] = {
      {Step::Pull, 500, "Get \"https://r/v2/\": net/http: TLS handshake timeout", Kind::Network},
      {Step::Pull, 500, "Get \"https://r/v2/\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)", Kind::Network},
      {Step::Pull, 500, "Get \"https://r/v2/\": dial tcp: lookup r on 1.1.1.1:53: server misbehaving", Kind::Network},
      {Step::Pull, 500, "received unexpected HTTP status: 503 Service Unavailable", Kind::Network},
      {Step::Pull, 0, "unexpected EOF", Kind::Network},
      {Step::Pull, 0, "read tcp 10.0.0.1:443: read: connection reset by peer", Kind::Network},
      {Step::Pull, 500, "toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading", Kind::Quota},
      {Step::Pull, 0, "initializing source docker://r/x:1: reading manifest 1 in r/x: toomanyrequests: too many requests", Kind::Quota},
      {Step::Pull, 0, "failed to register layer: write /x: no space left on device", Kind::Staging},
      {Step::Create, 404, "No such image: x:1", Kind::Image},  // it was here a moment ago
  };
  for (const FailureCase& one : cases) {
    Verdict verdict = FailureOf(one.step, one.status, one.message, Launch(), kDocker);
    EXPECT_EQ(ir::KindName(verdict.kind), ir::KindName(one.kind)) << one.message;
    EXPECT_FALSE(verdict.no_retry) << one.message;
    EXPECT_THAT(verdict.message, HasSubstr(one.message));
  }
}

TEST(Events, OfBothEngines) {
  auto die = ParseEvent(R"({"status":"die","id":"abc","from":"x","Type":"container","Action":"die","Actor":{"ID":"abc","Attributes":{"exitCode":"7","image":"x","jobc.attempt":"r-1","jobc.run":"r","name":"n"}},"scope":"local","time":1795328803,"timeNano":1795328803670314603})");
  ASSERT_TRUE(die);
  EXPECT_EQ(die->action, "die");
  EXPECT_EQ(die->exit_code, 7);
  EXPECT_EQ(die->attempt, "r-1");
  EXPECT_EQ(die->time_ns, 1795328803670314603);
  auto podman = ParseEvent(R"({"status":"died","id":"abc","Type":"container","Action":"died","Actor":{"ID":"abc","Attributes":{"containerExitCode":"3"}},"timeNano":5})");
  ASSERT_TRUE(podman);
  EXPECT_EQ(podman->action, "die");
  EXPECT_EQ(podman->exit_code, 3);
  EXPECT_EQ(ParseEvent(R"({"Type":"container","Action":"kill","Actor":{"ID":"a","Attributes":{"signal":"15"}}})")->signal, 15);
  EXPECT_FALSE(ParseEvent(R"({"Type":"network","Action":"connect","Actor":{"ID":"a"}})"));
  EXPECT_FALSE(ParseEvent("not json"));
  EXPECT_FALSE(ParseEvent("[]"));
  EXPECT_FALSE(ParseEvent(R"({"Type":"container","Action":"die","Actor":7})"));
}

TEST(Streams, LinesHoweverTheyAreCut) {
  const std::string text = "one\ntwo\n\nthree\nrest";
  for (size_t first = 0; first <= text.size(); ++first) {
    for (size_t second = first; second <= text.size(); ++second) {
      Lines lines;
      std::vector<std::string> got;
      auto each = [&](std::string_view line) { got.emplace_back(line); };
      EXPECT_TRUE(lines.Feed(std::string_view(text).substr(0, first), each));
      EXPECT_TRUE(lines.Feed(std::string_view(text).substr(first, second - first), each));
      EXPECT_TRUE(lines.Feed(std::string_view(text).substr(second), each));
      ASSERT_THAT(got, ElementsAre("one", "two", "", "three"));
      ASSERT_EQ(lines.rest(), "rest");
    }
  }
  Lines lines;
  EXPECT_FALSE(lines.Feed(std::string(100, 'x'), [](std::string_view) {}, 99));
}

std::string Frame(int stream, std::string_view bytes) {
  std::string out = {static_cast<char>(stream), 0, 0, 0};
  for (int shift : {24, 16, 8, 0}) out += static_cast<char>(bytes.size() >> shift & 0xff);
  return out + std::string(bytes);
}

TEST(Streams, FramesHoweverTheyAreCut) {
  const std::string bytes = Frame(1, "hello") + Frame(2, "") + Frame(2, std::string("e\0\xff", 3)) + Frame(1, " world") + Frame(0, "!");
  for (size_t first = 0; first <= bytes.size(); ++first) {
    for (size_t second = first; second <= bytes.size(); ++second) {
      LogFrames frames;
      std::string got[2];
      auto each = [&](LogStream stream, std::string_view part) { got[static_cast<size_t>(stream)] += part; };
      ASSERT_TRUE(frames.Feed(std::string_view(bytes).substr(0, first), each));
      ASSERT_TRUE(frames.Feed(std::string_view(bytes).substr(first, second - first), each));
      ASSERT_TRUE(frames.Feed(std::string_view(bytes).substr(second), each));
      ASSERT_EQ(got[0], "hello world!");
      ASSERT_EQ(got[1], std::string("e\0\xff", 3));
      ASSERT_TRUE(frames.AtBoundary());
    }
  }
}

TEST(Streams, RandomFramesInRandomPieces) {
  std::mt19937 random(20261122);
  auto upto = [&](size_t most) { return std::uniform_int_distribution<size_t>(0, most)(random); };
  for (int round = 0; round < 300; ++round) {
    std::string bytes, wanted[2], got[2];
    for (size_t i = upto(20); i > 0; --i) {
      const int stream = upto(1) == 0 ? 1 : 2;
      std::string part(upto(5) == 0 ? upto(70'000) : upto(20), '\0');
      for (char& c : part) c = static_cast<char>(upto(255));
      bytes += Frame(stream, part);
      wanted[stream - 1] += part;
    }
    LogFrames frames;
    for (std::string_view rest = bytes; !rest.empty();) {
      const size_t piece = std::min(rest.size(), 1 + (upto(3) == 0 ? upto(40'000) : upto(12)));
      ASSERT_TRUE(frames.Feed(rest.substr(0, piece), [&](LogStream stream, std::string_view part) { got[static_cast<size_t>(stream)] += part; }));
      rest.remove_prefix(piece);
    }
    ASSERT_TRUE(got[0] == wanted[0] && got[1] == wanted[1]) << "round " << round;
    ASSERT_TRUE(frames.AtBoundary());
  }
}

TEST(Streams, WhatIsNoFrameIsNotTakenForOutput) {
  LogFrames frames;
  int parts = 0;
  auto each = [&](LogStream, std::string_view) { ++parts; };
  EXPECT_FALSE(frames.Feed("{\"message\":\"x\"}", each));
  EXPECT_FALSE(frames.Feed(Frame(1, "late"), each));
  EXPECT_EQ(parts, 0);
  LogFrames cut;
  EXPECT_TRUE(cut.Feed(Frame(1, "hello").substr(0, 10), each));
  EXPECT_FALSE(cut.AtBoundary());
}

TEST(Pull, SaysHowFarItIs) {
  PullProgress pull;
  EXPECT_EQ(pull.Said(), "");
  for (const char* line : {R"({"status":"Pulling from library/x","id":"1"})", R"({"status":"Pulling fs layer","progressDetail":{},"id":"aa"})",
                           R"({"status":"Downloading","progressDetail":{"current":5242880,"total":104857600},"id":"aa"})",
                           R"({"status":"Downloading","progressDetail":{"current":20971520,"total":20971520},"id":"bb"})"}) {
    pull.Feed(line);
  }
  EXPECT_EQ(pull.Said(), "25 MiB of 120 MiB");
  EXPECT_FALSE(pull.IsHere());
  pull.Feed(R"({"status":"Download complete","progressDetail":{},"id":"aa"})");
  EXPECT_EQ(pull.Said(), "120 MiB of 120 MiB");
  EXPECT_FALSE(pull.IsHere());
  pull.Feed(R"({"status":"Verifying Checksum","progressDetail":{},"id":"bb"})");
  EXPECT_TRUE(pull.IsHere());
  pull.Feed(R"({"status":"Extracting","progressDetail":{"current":1,"total":20971520},"id":"bb"})");
  EXPECT_TRUE(pull.IsHere());
  EXPECT_EQ(pull.Said(), "120 MiB of 120 MiB");
  pull.Feed(R"({"status":"Retrying in 5 seconds","progressDetail":{},"id":"bb"})");
  EXPECT_FALSE(pull.IsHere());
  EXPECT_EQ(pull.error(), "");
  pull.Feed("garbage");
  pull.Feed(R"({"errorDetail":{"message":"manifest unknown\n"},"error":"manifest unknown"})");
  EXPECT_EQ(pull.error(), "manifest unknown");
}

TEST(Failures, OfRegistriesWithoutTlsSayHowToAllowThem) {
  const std::string said = "Get \"https://10.0.0.7:5000/v2/\": http: server gave HTTP response to HTTPS client";
  AttemptLaunch launch = Launch();
  launch.image = "10.0.0.7:5000/team/tool:1";
  EXPECT_THAT(FailureOf(Step::Pull, 500, said, launch, kDocker).message, AllOf(HasSubstr("speaks HTTP"), HasSubstr("\"insecure-registries\": [\"10.0.0.7:5000\"]"), HasSubstr("daemon.json")));
  EXPECT_THAT(FailureOf(Step::Pull, 0, said, launch, FlavourOf(ir::BackendKind::Podman)).message, AllOf(HasSubstr("location = \"10.0.0.7:5000\""), HasSubstr("registries.conf")));
  launch.image = "team/tool:1";
  EXPECT_THAT(FailureOf(Step::Pull, 500, "denied", launch, kDocker).message, HasSubstr("docker login docker.io"));
}

TEST(Pull, OneTagOnly) {
  auto query = [](const char* image) { return ApiPath("/images/create", PullQuery(image)); };
  EXPECT_EQ(query("debian"), "/images/create?fromImage=debian&tag=latest");
  EXPECT_EQ(query("debian:12"), "/images/create?fromImage=debian&tag=12");
  EXPECT_EQ(query("localhost:5000/a/b"), "/images/create?fromImage=localhost%3A5000%2Fa%2Fb&tag=latest");
  EXPECT_EQ(query("localhost:5000/a:1"), "/images/create?fromImage=localhost%3A5000%2Fa&tag=1");
  EXPECT_EQ(query("a@sha256:00"), "/images/create?fromImage=a%40sha256%3A00");
}

TEST(Users, ByTheImagesPasswd) {
  const char* passwd = "root:x:0:0:root:/root:/bin/sh\n# x\nbroken\napp:x:1000:1001::/home/app:/bin/sh\nwww:x:33:33";
  auto ids = [&](const char* user) {
    auto found = IdsOf(user, passwd);
    return found ? std::pair(found->uid, found->gid) : std::pair<int64_t, int64_t>(-1, -1);
  };
  using P = std::pair<int64_t, int64_t>;
  EXPECT_EQ(ids(""), P(0, 0));
  EXPECT_EQ(ids("root"), P(0, 0));
  EXPECT_EQ(ids("app"), P(1000, 1001));
  EXPECT_EQ(ids("www:44"), P(33, 44));
  EXPECT_EQ(ids("1000"), P(1000, 1001)) << "its group";
  EXPECT_EQ(ids("4711"), P(4711, 0));
  EXPECT_EQ(ids("4711:12"), P(4711, 12));
  EXPECT_EQ(ids("nobody"), P(-1, -1));
}

TEST(Users, FromATarArchive) {
  std::string header(512, '\0');
  header.replace(0, 6, "passwd");
  header.replace(124, 11, "00000000005");
  header[156] = '0';
  EXPECT_EQ(FirstFileOfTar(header + "hello" + std::string(507, '\0') + std::string(1024, '\0')), "hello");
  header.replace(124, 11, "77777777777");
  EXPECT_EQ(FirstFileOfTar(header + "hello"), "") << "cut";
  EXPECT_EQ(FirstFileOfTar("x"), "");
  EXPECT_EQ(FirstFileOfTar(""), "");
}

}  // namespace
}  // namespace jobc::docker

// Command lines of Apptainer as tables, without the tool; whole runs with a stand-in are in tests/run/apptainer_test.py.
#include "backends/apptainer/command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace jobc::apptainer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

AttemptLaunch Launch() {
  AttemptLaunch launch;
  launch.places = {"/s/out", "/s/tmp", "/s/stage", "/s/secrets"};
  launch.places.seen.emplace();
  launch.places.inputs = InputStaging::Mount;
  launch.mounts = {{"/s/out", "/jobc/out", false}, {"/data/x.csv", "/jobc/stage/in/x/x.csv", true}};
  launch.image = "debian:12";
  launch.argv = {"tool", "a b"};
  launch.env = {"A=1", "B=two\nlines"};
  launch.timeouts.run = 1000;
  launch.grace_ms = 500;
  return launch;
}

TEST(ApptainerCommand, IsTheWholeCommand) {
  auto made = MakeCommand(Launch(), "/usr/bin/apptainer", "/s/bin/init", "/jobc/stage/env");
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_THAT(made->argv, ElementsAre("/usr/bin/apptainer", "--silent", "exec", "--contain", "--cleanenv", "--no-home", "--bind", "/s/out:/jobc/out", "--bind", "/data/x.csv:/jobc/stage/in/x/x.csv:ro",
                                      "--bind", "/s/tmp:/tmp", "--bind", "/s/bin/init:/jobc/init:ro", "--pwd", "/jobc/out", "docker://debian:12", "/jobc/init", "--env", "/jobc/stage/env", "--limit",
                                      "3000", "--grace", "500", "--end", "/jobc/stage/end", "--", "tool", "a b"));
  EXPECT_EQ(made->program_env, std::string("A=1\0B=two\nlines\0", 16));
}

TEST(ApptainerCommand, TakesOptionsWorkdirGpusAndMounts) {
  AttemptLaunch launch = Launch();
  launch.mounts.clear();
  launch.resources.gpu = 1;
  auto text = [](const char* value) { return ir::Value::String(value); };
  auto mount = [&](const char* type) {
    return ir::Value::MapFrom({{text("ref"), ir::Value::MapFrom({{text("read_only"), ir::Value::Bool(false)}, {text("source"), text("/srv/ref")}, {text("target"), text("/ref")}, {text("type"), text(type)}})}});
  };
  launch.options = {{"mounts", mount("bind")}, {"options", ir::Value::List({text("--writable-tmpfs"), text("--nvccli")})}, {"workdir", text("/work")}};
  auto made = MakeCommand(launch, "/t", "/i", "/e");
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_THAT(std::vector<std::string>(made->argv.begin() + 6, made->argv.begin() + 18),
              ElementsAre("--bind", "/s/tmp:/tmp", "--bind", "/i:/jobc/init:ro", "--bind", "/srv/ref:/ref", "--pwd", "/work", "--nv", "--writable-tmpfs", "--nvccli", "docker://debian:12"));
  launch.options = {{"mounts", mount("volume")}};
  made = MakeCommand(launch, "/t", "/i", "/e");
  ASSERT_FALSE(made.ok());
  EXPECT_THAT(made.error().message, HasSubstr("volume"));
}

TEST(ApptainerCommand, ImageArgsGoToTheRunscript) {
  AttemptLaunch launch = Launch();
  launch.image_args = true;
  launch.argv = {"x"};
  auto made = MakeCommand(launch, "/t", "/i", "/e");
  ASSERT_TRUE(made.ok());
  EXPECT_THAT(std::vector<std::string>(made->argv.end() - 3, made->argv.end()), ElementsAre("--", "/.singularity.d/runscript", "x"));
  launch.image.clear();
  EXPECT_FALSE(MakeCommand(launch, "/t", "/i", "/e").ok());
}

TEST(ApptainerCommand, NamesImages) {
  const std::pair<const char*, const char*> cases[] = {
      {"debian:12", "docker://debian:12"}, {"ghcr.io/x/y@sha256:00", "docker://ghcr.io/x/y@sha256:00"}, {"docker://x", "docker://x"}, {"oras://h/x:1", "oras://h/x:1"},
      {"library://a/b", "library://a/b"},  {"/img/a.sif", "/img/a.sif"}, {"./a.sif", "./a.sif"}, {"a.sif", "a.sif"}, {"/images/dir", "/images/dir"}, {"docker-archive:/x.tar", "docker-archive:/x.tar"},
  };
  for (const auto& [image, reference] : cases) EXPECT_EQ(ImageReference(image), reference);
}

TEST(ApptainerCommand, BindsWhateverAPathHolds) {
  EXPECT_THAT(BindOptions({"/a", "/b", true}), ElementsAre("--bind", "/a:/b:ro"));
  EXPECT_THAT(BindOptions({"/a b", "/b", false}), ElementsAre("--bind", "/a b:/b"));
  EXPECT_THAT(BindOptions({"/a:b", "/in/a:b", true}), ElementsAre("--mount", "type=bind,source=/a:b,destination=/in/a:b,ro"));
  EXPECT_THAT(BindOptions({"/a,b\"c", "/d", false}), ElementsAre("--mount", "type=bind,\"source=/a,b\"\"c\",destination=/d"));
}

TEST(ApptainerCommand, TheToolGetsWhatItNeedsAndNothingElse) {
  EXPECT_THAT(ToolEnvironment({"HOME=/h", "SECRET=x", "APPTAINER_CACHEDIR=/c", "APPTAINERENV_X=1", "APPTAINER_BINDPATH=/etc", "SINGULARITY_BIND=/x", "https_proxy=p", "LD_PRELOAD=x"}),
              ElementsAre("HOME=/h", "APPTAINER_CACHEDIR=/c", "https_proxy=p", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"));
}

TEST(ApptainerCommand, TellsFaultsOfImagesFromOthers) {
  for (const char* line : {"FATAL:   could not open image /x/a.sif: failed to retrieve path for /x/a.sif: lstat /x/a.sif: no such file or directory",
                           "FATAL:   Unable to handle docker://nosuch uri: failed to get checksum for docker://nosuch: reading manifest latest in docker.io/library/nosuch: requested access to the resource is denied",
                           "FATAL: While making image from oci registry: error fetching image: manifest unknown"}) {
    EXPECT_EQ(FailureOf("/usr/bin/apptainer", 255, "img", line).kind, ir::ErrorKind::Image) << line;
  }
  const Verdict other = FailureOf("/usr/bin/apptainer", 255, "img", "FATAL:   container creation failed: mount hook function failure");
  EXPECT_EQ(other.kind, ir::ErrorKind::Submit);
  EXPECT_THAT(other.message, HasSubstr("apptainer did not start the program; its last words: FATAL"));
  EXPECT_THAT(FailureOf("/usr/bin/apptainer", 1, "img", "").message, HasSubstr("exit code 1 and said nothing"));
}

}  // namespace
}  // namespace jobc::apptainer

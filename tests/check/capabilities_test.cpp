// Every backend against every row of its capability table: what the table denies is refused, what it grants is not.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "compiler/check/check.h"
#include "compiler/check/schema.h"
#include "compiler/diagnostics/render.h"

namespace jobc {
namespace {

struct Answer {
  std::string codes, rendered;
};

Answer CheckText(const std::string& text) {
  SourceManager sources;
  Diagnostics diags;
  const SourceId root = sources.Add("capable.job", text, "");
  Check(root, sources, diags);
  Answer answer;
  for (const Diagnostic& d : diags.all()) answer.codes += (answer.codes.empty() ? "" : " ") + std::string(d.kind->code);
  answer.rendered = RenderText(diags, sources, {}) + text;
  return answer;
}

constexpr std::string_view kImage = "image = \"ghcr.io/acme/x@sha256:77e1c90000000000000000000000000000000000000000000000000000000000\"";

/// A job that has `settings`, on the backend, with all that the backend needs beside them.
std::string File(const check::BackendSchema& schema, std::string_view settings, std::string_view action = "run = [\"x\"]", bool staging = true, bool image = true) {
  std::string options;
  for (const check::BackendOption& option : schema.options) {
    if (option.required) options += fmt::format("{} = {}", option.name, option.type == "List<String>" ? "[\"a\"]" : "\"a\"");
  }
  if (schema.kind == ir::BackendKind::Vertex) options += " accelerator = \"NVIDIA_TESLA_T4\"";
  return fmt::format(
      "edition = 1\njob a {{\n  {}\n  {}\n  {}\n}}\nprofile p default {{\n  {}\n  backend = {} {{ {} }}\n}}\n", image && schema.can.needs_image ? kImage : "", settings,
      action, staging && schema.can.needs_staging ? "staging = \"gs://acme/jobc\"" : "", ir::BackendName(schema.kind), options);
}

class Capabilities : public testing::TestWithParam<int> {
 protected:
  const check::BackendSchema& schema() const { return check::SchemaOf(static_cast<ir::BackendKind>(GetParam())); }

  void Expect(const std::string& text, bool can, std::string_view code = "E601") const {
    const Answer answer = CheckText(text);
    EXPECT_EQ(answer.codes, can ? "" : code) << answer.rendered;
  }
};

TEST_P(Capabilities, DecideAboutEveryFeature) {
  const check::Capabilities& can = schema().can;
  Expect(File(schema(), ""), true);
  Expect(File(schema(), kImage, "run = [\"x\"]", true, false), can.takes_image);
  Expect(File(schema(), "", "run = [\"x\"]", true, false), !can.needs_image, "E104");
  Expect(File(schema(), can.needs_image ? "" : kImage, "image_args = [\"x\"]"), can.image_args || !can.takes_image ? can.takes_image : false);
  Expect(File(schema(), "inherit_env = [\"DISPLAY\"]"), can.inherit_env);
  Expect(File(schema(), "grace = 30s"), can.grace);
  Expect(File(schema(), "resources { gpu = 1 }"), can.gpu);
  Expect(File(schema(), "resources { gpu = 0, spot = false }"), true);
  Expect(File(schema(), "resources { spot = true }"), can.spot);
  Expect(File(schema(), "resources { disk = 10GiB }"), can.disk);
  Expect(File(schema(), "", "run = [\"bin/x\"]"), can.cwd);
  Expect(File(schema(), "", "run = [\"/bin/x\"]"), true);
}

TEST_P(Capabilities, DecideAboutSecrets) {
  const check::Capabilities& can = schema().can;
  using check::SecretCarriers;
  const std::string here = "\nsecret token = env(\"TOKEN\")\n", there = "\nsecret token = store(\"projects/a/secrets/b/versions/1\")\n";
  Expect(File(schema(), "env { TOKEN = token }") + here, can.secrets == SecretCarriers::Private);
  Expect(File(schema(), "env { TOKEN = token }") + there, can.secrets == SecretCarriers::Stored);
  Expect(File(schema(), "secret_files { \"t\" = token }") + here, can.secrets == SecretCarriers::Private && can.secret_files);
  Expect(File(schema(), "secret_files { \"t\" = token }") + there, can.secrets == SecretCarriers::Stored && can.secret_files);
}

TEST_P(Capabilities, HaveLimitsThatAreReachedExactly) {
  const check::Capabilities& can = schema().can;
  auto limit = [&](double most, std::string_view block, std::string_view name, auto text) {
    const double tried = most > 0 ? most : 1000;
    Expect(File(schema(), fmt::format("{} {{ {} = {} }}", block, name, text(tried))), true);
    Expect(File(schema(), fmt::format("{} {{ {} = {} }}", block, name, text(tried + 1))), most <= 0, "E602");
  };
  auto plain = [](double n) { return fmt::format("{}", static_cast<int64_t>(n)); };
  limit(can.max_cpu, "resources", "cpu", plain);
  if (can.gpu) limit(static_cast<double>(can.max_gpu), "resources", "gpu", plain);
  limit(static_cast<double>(can.max_memory), "resources", "memory", [](double n) { return fmt::format("{}B", static_cast<int64_t>(n)); });
  limit(static_cast<double>(can.max_run_ms), "timeout", "run", [](double n) { return fmt::format("{}ms", static_cast<int64_t>(n)); });
}

TEST_P(Capabilities, SayWhichFilesAreSeen) {
  const check::Capabilities& can = schema().can;
  const std::string params = "\nparams { f: File }\n";
  const bool alone = !can.needs_staging;
  Expect(File(schema(), "input { f: File = params.f }", "run = [\"x\", input.f]", false) + params, alone, "E603");
  Expect(File(schema(), "input { f: File = params.f }", "run = [\"x\", input.f]", true) + params, true);
  Expect(File(schema(), "", "run = [\"x\", params.f]", false) + params, alone, "E603");
  Expect(File(schema(), "output { n: Int }", "run = [\"x\"]", false), alone, "E603");
  Expect(File(schema(), "output { n: String = stdout() }", "run = [\"x\"]", false), true);
  for (const char* scheme : {"gs", "s3", "http", "https"}) {
    const std::string uri = std::string(scheme) + "://acme/table.csv";
    Expect(File(schema(), fmt::format("input {{ f: File = \"{}\" }}", uri), "run = [\"x\", input.f]"), check::CanStage(can, uri), "E603");
  }
}

INSTANTIATE_TEST_SUITE_P(Of, Capabilities, testing::Range(0, ir::kBackendKinds),
                         [](const testing::TestParamInfo<int>& info) { return std::string(ir::BackendName(static_cast<ir::BackendKind>(info.param))); });

}  // namespace
}  // namespace jobc

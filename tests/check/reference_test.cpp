// What names mean beside jobs: outputs, status, indices, phases, secrets, nullable outputs and their narrowing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/check/fixture.h"

namespace jobc {
namespace {

using testing::HasSubstr;

constexpr std::string_view kJobs = R"(edition = 1
enum Size { small, large }
params { n: Int = 3, names: List<String> = ["a", "b"], o: Int? = null }
secret token = env("TOKEN")
fn show(s: Secret) -> Secret = "Bearer ~{s}"
job one {
  run = ["one"]
  output { rows: Int, table: File = "t.csv", note: String? }
}
job maybe {
  when = one.rows > 0
  run = ["maybe"]
  output { rows: Int, table: File = "t.csv", note: String? }
}
job each {
  for s in params.names key s
  on_error = ignore
  run = ["each", s]
  output { rows: Int, table: File = "~{s}.csv" }
}
job grid {
  for s in params.names key s
  matrix { size = [Size.small, Size.large], n = [1, 2] }
  run = ["grid", s]
  output { rows: Int }
}
job numbers {
  for i in range(params.n)
  run = ["numbers", i]
  output { rows: Int }
}
)";

/// The codes of a file that goes on after kJobs, without those of things that are merely unused.
std::string Codes(const std::string& rest, std::string* rendered = nullptr) {
  Outcome outcome = CheckText(std::string(kJobs) + rest);
  if (rendered != nullptr) *rendered = outcome.rendered;
  std::string codes;
  for (const std::string& code : outcome.codes) {
    if (code[0] == 'W' && code != "W201") continue;
    codes += (codes.empty() ? "" : " ") + code;
  }
  return codes;
}

std::string TypeOrCodes(const std::string& expression) {
  std::string rest = "let x = " + expression + "\n", rendered;
  std::string codes = Codes(rest, &rendered);
  return codes.empty() ? CheckText(std::string(kJobs) + rest).TypeOfLet("x") : codes;
}

TEST(References, HaveTheTypeOfWhatTheyName) {
  const std::pair<std::string, std::string> kRows[] = {
      {"one.rows", "Int"}, {"one.note", "String?"}, {"one.ok", "Bool"}, {"one.result", "Json?"}, {"one.duration", "E901"}, {"one.attempts", "E901"}, {"one.count", "E101"}, {"one.rowz", "E101"}, {"one", "E201"}, {"one[1].rows", "E201"},
      {"one?.rows", "E201"}, {"maybe.rows", "Int?"}, {"maybe.note", "String?"}, {"maybe.failed", "Bool"}, {"each[\"a\"].rows", "Int?"}, {"each[*].rows", "List<Int?>"}, {"each.rows", "E201"}, {"each.ok", "Bool"}, {"each.ok_ratio", "Float"},
      {"each.count", "Int"}, {"each.attempts", "E201"}, {"each[\"a\"].attempts", "E901"}, {"each[\"a\"].count", "E101"}, {"each[*]", "E201"}, {"each[\"a\"]", "E201"}, {"each[1].rows", "E201"}, {"each[\"a\", 1].rows", "E207"}, {"each[*].ok", "List<Bool>"},
      {"grid[\"a\", Size.small, 1].rows", "Int"}, {"grid[\"a\"].rows", "List<Int>"}, {"grid[\"a\", Size.small].rows", "List<Int>"}, {"grid[*].rows", "List<Int>"}, {"grid[\"a\", 1].rows", "E201"}, {"grid[\"a\", Size.small, 1].ok", "Bool"},
      {"numbers[0].rows", "Int"}, {"numbers[\"0\"].rows", "E201"}, {"[for g in grid[*] : g.rows]", "List<Int>"}, {"[for g in grid[*] : g.key]", "List<String>"}, {"[for g in grid[\"a\"] if g.ok : g.rows]", "List<Int>"}, {"[for g in grid[*] : g]", "E201"},
      {"[for g in each[*] : g.rows]", "List<Int?>"}, {"[for g in each[*] if g.ok : g.rows]", "List<Int>"}, {"[for g in each : g.rows]", "E201"}, {"[for g in one : g.rows]", "E201"}, {"[for g in grid[*] : g.rowz]", "E101"}, {"oone.rows", "E101"},
      {"compact(each[*].table)", "List<File>"}, {"sum([for g in grid[*] : g.rows])", "Int"}, {"token", "E402"}, {"\"~{token}\"", "E402"}, {"show(token)", "E402"}, {"length(show(token))", "E402"}, {"[token]", "E402"}, {"run.id", "E101"}, {"input.x", "E101"}, {"attempt", "E101"}};
  for (const auto& [expression, expected] : kRows) EXPECT_EQ(TypeOrCodes(expression), expected) << expression;
}

TEST(References, ToNullableOutputsNeedAProofThatTheyExist) {
  const std::pair<std::string, std::string> kRows[] = {
      {"job x { input { r: Int = maybe.rows } run = [\"x\", input.r] }", "E202"},
      {"job x { when = maybe.ok, input { r: Int = maybe.rows } run = [\"x\", input.r] }", ""},
      {"job x { when = maybe.rows != null, input { r: Int = maybe.rows } run = [\"x\", input.r] }", ""},
      {"job x { when = maybe.rows != null, input { r: File = maybe.table } run = [\"x\", input.r] }", "E202"},
      {"job x { when = maybe.ok, input { r: String = maybe.note } run = [\"x\", input.r] }", "E202"},
      {"job x { when = maybe.done, input { r: Int = maybe.rows } run = [\"x\", input.r] }", "E202"},
      {"job x { when = !maybe.failed, input { r: Int = maybe.rows } run = [\"x\", input.r] }", "E302 E202"},
      {"job x { when = maybe.ok || one.ok, input { r: Int = maybe.rows } run = [\"x\", input.r] }", "E202"},
      {"job x { for s in params.names key s, when = each[s].ok, input { r: Int = each[s].rows } run = [\"x\", input.r] }", ""},
      {"job x { for s in params.names key s, when = each[\"a\"].ok, input { r: Int = each[s].rows } run = [\"x\", input.r] }", "E202"},
      {"job x { for s in params.names key s, when = each.ok, input { r: Int = each[s].rows } run = [\"x\", input.r] }", "E202"},
      {"job x { for s in params.names key s, input { r: Int? = each[s].rows } run = [\"x\", ...input.r] }", ""},
      {"job x { for s in params.names key s, input { r: Int? = each[s].rows } run = [\"x\", input.r] }", "E202"},
      {"check x { require maybe.ok, require maybe.rows > 1 }", ""},
      {"check x { require maybe.rows > 1 }", "E202"},
      {"export { r: Int = maybe.rows ?? 0 }", ""},
      {"export { r: Int = maybe.rows }", "E202"}};
  for (const auto& [text, expected] : kRows) {
    std::string rendered;
    EXPECT_EQ(Codes(text + "\n", &rendered), expected) << text << "\n" << rendered;
  }
}

TEST(References, AreRefusedWhereTheirValueComesTooLate) {
  const std::pair<std::string, std::string> kRows[] = {
      {"job x { image = one.note ?? \"a\", run = [\"x\"] }", "E208"},
      {"job x { image = \"a~{params.n}\", backend = docker { }, run = [\"x\"] }", ""},
      {"job x { priority = one.rows, run = [\"x\"] }", "E208"},
      {"job x { priority = params.n, run = [\"x\"] }", ""},
      {"job x { labels { a = \"~{params.n}\" } run = [\"x\"] }", ""},
      {"job x { labels { a = \"~{one.rows}\" } run = [\"x\"] }", "E208"},
      {"job x { retry { max_attempts = params.n } run = [\"x\"] }", "E208"},
      {"job x { run = [\"x\", one.rows] }", ""},
      {"job x { run = [\"x\", stdout()] }", "E208"},
      {"job x { run = [\"x\"], output { a: String = stdout() } }", ""},
      {"job x { run = [\"x\", output.a], output { a: Int } }", "E208"},
      {"job x { run = [\"x\", output.a], output { a: File = \"a\" } }", ""},
      {"job x { run = [\"x\"], output { a: File = \"~{one.rows}\" } }", "E208"},
      {"job x { run = [\"x\", run.id] }", "E101"},
      {"finally x { run = [\"x\", run.id, run.status, join(run.failed_jobs, \",\")] }", ""},
      {"finally x { run = [\"x\", ...one.rows] }", ""},
      {"finally x { run = [\"x\", one.rows] }", "E202"},
      {"job x { for r in each[*].rows, run = [\"x\"] }", "E305"},
      {"job x { timeout { run = 1m * one.rows } run = [\"x\"] }", "E208"}};
  for (const auto& [text, expected] : kRows) {
    std::string rendered;
    EXPECT_EQ(Codes(text + "\n", &rendered), expected) << text << "\n" << rendered;
  }
}

TEST(Secrets, FlowOnlyIntoTheEnvironmentAndSecretFiles) {
  const std::pair<std::string, std::string> kRows[] = {
      {"job x { env { A = token, B = \"x~{token}\", C = show(token) } run = [\"x\"] }", ""},
      {"job x { secret_files { \"pw\" = token } run = [\"x\"] }", ""},
      {"job x { run = [\"x\", token] }", "E402"},
      {"job x { run = [\"x\", \"~{token}\"] }", "E402"},
      {"job x { script = <<~SH\n echo \"~{token}\"\nSH\n}", "E402"},
      {"job x { env { A = if params.n > 1 then token else token } run = [\"x\"] }", "E402 E402"},
      {"job x { env { A = trim(token) } run = [\"x\"] }", "E402"},
      {"job x { labels { a = token } run = [\"x\"] }", "E402"},
      {"fn leak(s: Secret) -> String = \"~{s}\"", "E402"},
      {"fn leak(s: Secret) -> Bool = s == s", "E402 E402"}};
  for (const auto& [text, expected] : kRows) {
    std::string rendered;
    EXPECT_EQ(Codes(text + "\n", &rendered), expected) << text << "\n" << rendered;
  }
}

TEST(Helps, ForNullableOutputsGuardTheJob) {
  Outcome outcome = CheckText(std::string(kJobs) + "job x {\n  input { r: Int = maybe.rows }\n  run = [\"x\", input.r]\n}\n");
  ASSERT_THAT(outcome.rendered, HasSubstr("because of this, a skipped `maybe` leaves its outputs null"));
  std::string fixed = outcome.Fixed();
  EXPECT_THAT(fixed, HasSubstr("job x {\n  when = maybe.ok\n  input { r: Int = maybe.rows }\n"));
  std::string codes;
  for (const std::string& code : CheckText(fixed).codes) {
    if (code[0] == 'E') codes += code;
  }
  EXPECT_EQ(codes, "") << fixed;
}

TEST(Helps, ExtendAGuardThatIsThere) {
  Outcome outcome = CheckText(std::string(kJobs) + "job x {\n  when = one.ok || one.rows > 1\n  input { r: Int = maybe.rows }\n  run = [\"x\", input.r]\n}\n");
  EXPECT_THAT(outcome.Fixed(), HasSubstr("when = (one.ok || one.rows > 1) && maybe.ok\n"));
}

}  // namespace
}  // namespace jobc

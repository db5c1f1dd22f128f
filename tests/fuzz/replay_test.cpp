// A fuzz target without a fuzzer: every file of its corpus, whole, cut off, and with bytes changed, always the same ones.
// What a fuzzer once found lies in the corpus and is found again here, by any compiler. Each file is tried in a process
// of its own, so that a crash or a hang names it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

namespace fs = std::filesystem;

constexpr unsigned kSeconds = 120;  ///< for one file and all that is made of it; a hang is what takes longer
constexpr size_t kVariants = 12;

/// JOBC_FUZZ_SEEDS: directories and files, separated by `|`.
std::vector<std::string> SeedFiles() {
  std::vector<std::string> files;
  std::istringstream list(JOBC_FUZZ_SEEDS);
  for (std::string place; std::getline(list, place, '|');) {
    if (!fs::is_directory(place)) {
      files.push_back(place);
      continue;
    }
    for (const fs::directory_entry& entry : fs::directory_iterator(place)) {
      if (entry.is_regular_file()) files.push_back(entry.path().string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

void Try(const std::string& text) { LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(text.data()), text.size()); }

[[noreturn]] void TryAll(const std::string& path) {
  alarm(kSeconds);
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  Try(text);
  for (size_t i = 0; i < kVariants; ++i) Try(text.substr(0, text.size() * i / kVariants));
  uint32_t random = 1;
  auto next = [&random](size_t below) { return static_cast<size_t>((random = random * 1664525 + 1013904223) >> 8) % below; };
  for (size_t i = 0; i < kVariants && !text.empty(); ++i) {
    std::string other = text;
    constexpr std::string_view kBytes = "\"{}()[],.:=#\\$\n\xFF\0 0a?";
    for (size_t changes = 1 + i % 3; changes > 0; --changes) other[next(other.size())] = kBytes[next(kBytes.size())];
    Try(other);
  }
  std::_Exit(0);
}

class Replay : public testing::TestWithParam<std::string> {};

TEST_P(Replay, EndsWithoutACrashOrAHang) { EXPECT_EXIT(TryAll(GetParam()), testing::ExitedWithCode(0), "") << GetParam(); }

std::string NameOf(const testing::TestParamInfo<std::string>& info) {
  std::string name = std::to_string(info.index) + "_" + fs::path(info.param).filename().string();
  std::replace_if(name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Corpus, Replay, testing::ValuesIn(SeedFiles()), NameOf);

}  // namespace
